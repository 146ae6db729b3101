//! A request as the template's variables, in the words of Hugging Face's `apply_chat_template`.
//!
//! Where a template cannot take a conversation as it is ([`Abilities`]), the conversation is changed first, so that
//! nothing of it is silently left out: tools are described in the system message, calls and results become text, and
//! system messages are joined.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;

use minijinja::value::Value;
use protocol::{ChatMessage, ChatRequest, ReasoningEffort, Role, Tool, ToolCall};

use super::abilities::Abilities;
use super::guard::{self, Author, Care, Guard};
use super::python::{Dict, Json, value};

/// A message on its way to the template.
#[derive(Debug)]
struct Turn<'r> {
    role: Role,
    content: Cow<'r, str>,
    /// Before which byte of the content, and the image's place among all of them.
    images: Vec<(usize, usize)>,
    name: Option<&'r str>,
    calls: &'r [ToolCall],
    call_id: Option<&'r str>,
    reasoning: Option<Cow<'r, str>>,
    is_results: bool,
}

impl<'r> Turn<'r> {
    fn new(role: Role, content: impl Into<Cow<'r, str>>) -> Self {
        Self {
            role,
            content: content.into(),
            images: Vec::new(),
            name: None,
            calls: &[],
            call_id: None,
            reasoning: None,
            is_results: false,
        }
    }

    /// Puts a text before the content.
    fn begin_with(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let gap = if self.content.is_empty() { "" } else { "\n\n" };
        self.content = Cow::Owned(format!("{text}{gap}{}", self.content));
        for (at, _) in &mut self.images {
            *at += text.len() + gap.len();
        }
    }

    /// Puts a text after the content.
    fn end_with(&mut self, text: &str, gap: &str) {
        let gap = if self.content.is_empty() { "" } else { gap };
        self.content.to_mut().push_str(gap);
        self.content.to_mut().push_str(text);
    }
}

/// What goes into a template.
#[derive(Debug)]
pub(super) struct Conversation<'r> {
    turns: Vec<Turn<'r>>,
    tools: &'r [Tool],
    reasoning: Option<ReasoningEffort>,
    is_prefill: bool,
}

impl<'r> Conversation<'r> {
    /// The request, changed where the template needs it.
    pub(super) fn new(request: &'r ChatRequest, abilities: &Abilities) -> Self {
        let mut names = BTreeMap::new();
        let mut images = 0;
        let turns = request.messages.iter().map(|message| {
            for call in &message.tool_calls {
                names.insert(call.id.as_str(), call.name.as_str());
            }
            turn(message, &names, &mut images)
        });
        let mut conversation = Self {
            turns: turns.collect(),
            tools: &request.tools,
            reasoning: request.reasoning,
            is_prefill: request
                .messages
                .last()
                .is_some_and(|last| last.role == Role::Assistant && last.tool_calls.is_empty()),
        };
        conversation.adapt(abilities);
        conversation
    }

    /// Whether the answer goes on with the last message.
    pub(super) const fn is_prefill(&self) -> bool {
        self.is_prefill
    }

    fn adapt(&mut self, abilities: &Abilities) {
        if !self.tools.is_empty() && !abilities.tools {
            self.describe_tools(abilities);
        }
        if !abilities.calls {
            self.write_calls_out(abilities.arguments_key);
        }
        if !abilities.text_and_reasoning {
            for turn in &mut self.turns {
                let reasoning = turn.reasoning.as_mut().filter(|text| !text.is_empty());
                if let Some(reasoning) = reasoning
                    && !turn.calls.is_empty()
                    && !turn.content.is_empty()
                {
                    let reasoning = reasoning.to_mut();
                    reasoning.push_str("\n\n");
                    reasoning.push_str(&turn.content);
                    turn.content = Cow::Borrowed("");
                }
            }
        }
        self.join_systems(abilities);
    }

    fn describe_tools(&mut self, abilities: &Abilities) {
        let tools: Vec<String> = self
            .tools
            .iter()
            .map(|tool| {
                let json = tool_value(tool, abilities, &str::to_owned);
                Json::default().dumps(&json).unwrap_or_default()
            })
            .collect();
        let text = format!(
            "You may call functions. These there are:\n{}\n\nTo call one, write nothing but a line of JSON: {{\"name\": <function-name>, \"{}\": <arguments-json-object>}}",
            tools.join("\n"),
            abilities.arguments_key
        );
        let systems = self.turns.iter();
        let place = systems.take_while(|turn| turn.role == Role::System).count();
        self.turns.insert(place, Turn::new(Role::System, text));
        self.tools = &[];
    }

    /// For templates that know no calls: they are written as the model is asked to write them.
    fn write_calls_out(&mut self, arguments_key: &str) {
        let mut turns: Vec<Turn<'r>> = Vec::with_capacity(self.turns.len());
        for mut turn in self.turns.drain(..) {
            for call in std::mem::take(&mut turn.calls) {
                let mut json = Dict::default();
                json.insert("name", call.name.as_str());
                json.insert(
                    arguments_key,
                    arguments(&call.arguments, false, &str::to_owned),
                );
                let line = Json::default().dumps(&json.into_value());
                turn.end_with(&line.unwrap_or_default(), "\n");
            }
            if turn.role != Role::Tool {
                turns.push(turn);
                continue;
            }
            let name = turn.name.or(turn.call_id).unwrap_or("the function");
            let head = format!("Result of {name}:\n");
            let text = format!("{head}{}", turn.content);
            let images = turn.images.iter();
            if let Some(last) = turns.last_mut().filter(|last| last.is_results) {
                let begin = last.content.len() + 2 + head.len();
                let images = images.map(|(at, index)| (begin + at, *index));
                last.images.extend(images);
                last.end_with(&text, "\n\n");
            } else {
                let images = images.map(|(at, index)| (head.len() + at, *index));
                turns.push(Turn {
                    images: images.collect(),
                    is_results: true,
                    ..Turn::new(Role::User, text)
                });
            }
        }
        self.turns = turns;
    }

    /// For templates that refuse or leave out system messages, or all but the first.
    fn join_systems(&mut self, abilities: &Abilities) {
        let is_system = |turn: &Turn<'_>| turn.role == Role::System;
        let is_later = self.turns.iter().skip(1).any(is_system);
        if !self.turns.iter().any(is_system)
            || (abilities.system && (abilities.later_system || !is_later))
        {
            return;
        }
        let systems: Vec<&str> = self
            .turns
            .iter()
            .filter(|turn| is_system(turn) && !turn.content.is_empty())
            .map(|turn| &*turn.content)
            .collect();
        let text = systems.join("\n\n");
        self.turns.retain(|turn| !is_system(turn));
        if abilities.system {
            self.turns.insert(0, Turn::new(Role::System, text));
            return;
        }
        let mut users = self.turns.iter_mut();
        match users.find(|turn| turn.role == Role::User) {
            Some(user) => user.begin_with(&text),
            None => self.turns.insert(0, Turn::new(Role::User, text)),
        }
    }

    /// The variables `messages` and `tools`, and those that say how much the model thinks; and whether there is
    /// anything in them that had to be marked or left out.
    pub(super) fn variables(
        &self,
        abilities: &Abilities,
        guard: &Guard,
        care: Care,
    ) -> (Vec<(&'static str, Value)>, bool) {
        let is_touched = Cell::new(false);
        let marked = |text: &str, author| {
            let marked = guard.marked(text, author, care);
            is_touched.set(is_touched.get() || marked != text);
            marked
        };
        let last = self.turns.len().saturating_sub(1);
        let messages = self.turns.iter().enumerate().map(|(index, turn)| {
            let tail = if self.is_prefill && index == last {
                guard::tail()
            } else {
                String::new()
            };
            message_value(turn, &tail, abilities, &marked)
        });
        let messages: Vec<Value> = messages.collect();
        let tools: Vec<Value> = self
            .tools
            .iter()
            .map(|tool| tool_value(tool, abilities, &|text| marked(text, Author::Word)))
            .collect();
        let tools = if tools.is_empty() {
            Value::from(())
        } else {
            Value::from(tools)
        };
        let mut variables = vec![("messages", Value::from(messages)), ("tools", tools)];
        variables.extend(thinking(self.reasoning, abilities));
        (variables, is_touched.get())
    }
}

fn turn<'r>(
    message: &'r ChatMessage,
    names: &BTreeMap<&'r str, &'r str>,
    images: &mut usize,
) -> Turn<'r> {
    let places = message.images.iter().map(|image| {
        let index = *images;
        *images += 1;
        (usize::try_from(image.at).unwrap_or(usize::MAX), index)
    });
    let called = message
        .tool_call_id
        .as_ref()
        .and_then(|id| names.get(id.as_str()).copied());
    Turn {
        images: places.collect(),
        name: message.name.as_deref().or(called),
        calls: &message.tool_calls,
        call_id: message.tool_call_id.as_deref(),
        reasoning: message.reasoning.as_deref().map(Cow::Borrowed),
        ..Turn::new(message.role, message.content.as_str())
    }
}

fn message_value(
    turn: &Turn<'_>,
    tail: &str,
    abilities: &Abilities,
    marked: &impl Fn(&str, Author) -> String,
) -> Value {
    let author = if turn.role == Role::Assistant {
        Author::Assistant
    } else {
        Author::Other
    };
    let mut message = Dict::default();
    message.insert("role", turn.role.as_str());
    let has_parts = !abilities.text_content || (abilities.parts && !turn.images.is_empty());
    let content = if turn.content.is_empty() && !turn.calls.is_empty() && abilities.none_content {
        Value::from(())
    } else if has_parts {
        parts(turn, tail, &|text| marked(text, author))
    } else {
        let mut text = String::new();
        for part in cut_at_images(turn) {
            match part {
                Ok(part) => text.push_str(&marked(part, author)),
                Err(index) => {
                    text.push_str(&guard::image_begin(index));
                    text.push_str(&guard::image_end());
                }
            }
        }
        Value::from(text + tail)
    };
    message.insert("content", content);
    if let Some(name) = turn.name {
        message.insert("name", marked(name, Author::Word));
    }
    if let Some(reasoning) = &turn.reasoning {
        let reasoning = marked(reasoning, author);
        // Two names are in use; Hugging Face gives both.
        message.insert("thinking", reasoning.as_str());
        message.insert("reasoning_content", reasoning);
    }
    if !turn.calls.is_empty() {
        let calls = turn.calls.iter().map(|call| {
            let mut function = Dict::default();
            function.insert("name", marked(&call.name, Author::Word));
            let given = arguments(&call.arguments, abilities.text_arguments, &|text| {
                marked(text, author)
            });
            function.insert("arguments", given);
            let mut value = Dict::default();
            value.insert("id", marked(&call.id, Author::Other));
            value.insert("type", "function");
            value.insert("function", function.into_value());
            value.into_value()
        });
        message.insert("tool_calls", Value::from(calls.collect::<Vec<Value>>()));
    }
    if let Some(id) = turn.call_id {
        message.insert("tool_call_id", marked(id, Author::Other));
    }
    message.into_value()
}

/// Texts, and numbers of the images between them.
fn cut_at_images<'t>(turn: &'t Turn<'_>) -> Vec<Result<&'t str, usize>> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for (at, index) in &turn.images {
        if let Some(text) = turn.content.get(begin..*at) {
            if !text.is_empty() {
                parts.push(Ok(text));
            }
            begin = *at;
        }
        parts.push(Err(*index));
    }
    let rest = turn.content.get(begin..).unwrap_or_default();
    if !rest.is_empty() || parts.is_empty() {
        parts.push(Ok(rest));
    }
    parts
}

fn parts(turn: &Turn<'_>, tail: &str, marked: &impl Fn(&str) -> String) -> Value {
    let part = |kind: &str, text: Option<String>| {
        let mut part = Dict::default();
        part.insert("type", kind);
        if let Some(text) = text {
            part.insert("text", text);
        }
        part.into_value()
    };
    let text = |text: String| part("text", Some(text));
    let mut parts = Vec::new();
    for piece in cut_at_images(turn) {
        match piece {
            Ok(piece) => parts.push(text(marked(piece))),
            Err(index) => {
                parts.push(text(guard::image_begin(index)));
                parts.push(part("image", None));
                parts.push(text(guard::image_end()));
            }
        }
    }
    if !tail.is_empty() {
        parts.push(text(tail.to_owned()));
    }
    Value::from(parts)
}

/// A call's arguments: an object where the text is one, unless the template wants text.
fn arguments(text: &str, as_text: bool, marked: &impl Fn(&str) -> String) -> Value {
    let object = serde_json::from_str(text)
        .ok()
        .filter(serde_json::Value::is_object);
    match object {
        Some(object) if !as_text => value(&object, marked),
        _ => Value::from(marked(text)),
    }
}

fn tool_value(tool: &Tool, abilities: &Abilities, marked: &impl Fn(&str) -> String) -> Value {
    let mut function = Dict::default();
    function.insert("name", marked(&tool.name));
    if let Some(description) = &tool.description {
        function.insert("description", marked(description));
    } else if !abilities.bare_tools {
        function.insert("description", "");
    }
    // Absent, it means a function without parameters; few templates know that.
    let parameters = match &tool.parameters {
        Some(parameters) => value(parameters, marked),
        None => value(
            &serde_json::json!({"type": "object", "properties": {}}),
            &str::to_owned,
        ),
    };
    function.insert("parameters", parameters);
    let mut value = Dict::default();
    value.insert("type", "function");
    value.insert("function", function.into_value());
    value.into_value()
}

/// How much the model thinks, in every word that templates use for it.
fn thinking(
    reasoning: Option<ReasoningEffort>,
    abilities: &Abilities,
) -> Vec<(&'static str, Value)> {
    let effort = match reasoning {
        None | Some(ReasoningEffort::Unknown) => return Vec::new(),
        Some(effort) => effort,
    };
    let is_on = effort != ReasoningEffort::None;
    let word = if is_on || abilities.none_effort {
        effort
    } else {
        ReasoningEffort::Low
    };
    let mut variables = vec![
        ("enable_thinking", Value::from(is_on)),
        ("thinking", Value::from(is_on)),
        ("reasoning_effort", Value::from(word.as_str())),
    ];
    if !is_on {
        variables.push(("thinking_budget", Value::from(0)));
    }
    variables
}
