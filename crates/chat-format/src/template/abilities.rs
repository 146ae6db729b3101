//! What a template can do, found out by trying it: no template says so.

use super::guard::Read;
use protocol::{ChatMessage, ChatRequest, Image, Role, Tool, ToolCall};

/// What a template can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a question of its own"
)]
pub struct Abilities {
    /// It shows a system message at the beginning.
    pub system: bool,
    /// It shows system messages at other places too.
    pub later_system: bool,
    /// It shows the tools that are offered.
    pub tools: bool,
    /// Also such as have no description.
    pub bare_tools: bool,
    /// It shows calls and their results.
    pub calls: bool,
    /// A message of calls only has no content; else it has an empty one.
    pub none_content: bool,
    /// It wants arguments as text, not as objects.
    pub text_arguments: bool,
    /// A message of calls may have both text and reasoning.
    pub text_and_reasoning: bool,
    /// It knows parts of contents, and writes something for an image.
    pub parts: bool,
    /// It takes contents that are text.
    pub text_content: bool,
    /// It has a word for no reasoning effort.
    pub none_effort: bool,
    /// What arguments are called where calls are written out.
    pub arguments_key: &'static str,
}

impl Abilities {
    /// A template that can do everything; what is tried out is tried with these.
    const ALL: Self = Self {
        system: true,
        later_system: true,
        tools: true,
        bare_tools: true,
        calls: true,
        none_content: false,
        text_arguments: false,
        text_and_reasoning: true,
        parts: true,
        text_content: true,
        none_effort: true,
        arguments_key: "arguments",
    };

    /// Tries a template out. `render` gives what it makes of a request, taken for one with these abilities, or nothing
    /// where it fails.
    pub(super) fn probe(
        source: &str,
        render: impl Fn(&ChatRequest, &Self) -> Option<Read>,
    ) -> Self {
        let shows = |request: &ChatRequest, abilities: &Self, needles: &[&str]| {
            render(request, abilities)
                .is_some_and(|read| needles.iter().all(|needle| read.text.contains(needle)))
        };
        let mut all = Self {
            none_effort: source.contains("'none'") || source.contains("\"none\""),
            arguments_key: arguments_key(source),
            ..Self::ALL
        };
        let said = |messages: &[(Role, &str)]| ChatRequest {
            messages: messages
                .iter()
                .map(|(role, content)| ChatMessage::new(*role, *content))
                .collect(),
            ..ChatRequest::default()
        };
        let plain = said(&[(Role::User, "needleone")]);
        all.text_content = shows(&plain, &all, &["needleone"])
            || !shows(
                &plain,
                &Self {
                    text_content: false,
                    ..all
                },
                &["needleone"],
            );
        let both = ["needleone", "needletwo"];
        let system = said(&[(Role::System, both[0]), (Role::User, both[1])]);
        let systems = said(&[
            (Role::System, both[0]),
            (Role::System, both[1]),
            (Role::User, "x"),
        ]);
        let later = said(&[
            (Role::System, both[0]),
            (Role::User, "x"),
            (Role::Assistant, "y"),
            (Role::System, both[1]),
            (Role::User, "z"),
        ]);
        let offered = offering(Some("needledescription"));
        let calling = Self::probe_calls(&all, &render);
        Self {
            system: shows(&system, &all, &both),
            later_system: shows(&systems, &all, &both) && shows(&later, &all, &both),
            tools: shows(&offered, &all, &["needletool", "needledescription"]),
            bare_tools: shows(&offering(None), &all, &["needletool"]),
            text_and_reasoning: calling.is_none_or(|calling| {
                calling.text_arguments || render(&thoughtful(), &all).is_some()
            }),
            parts: render(&pictured(), &all).is_some_and(|read| shows_picture(&read)),
            calls: calling.is_some(),
            ..calling.unwrap_or(all)
        }
    }

    /// In which form the template takes calls, if in any.
    fn probe_calls(
        all: &Self,
        render: &impl Fn(&ChatRequest, &Self) -> Option<Read>,
    ) -> Option<Self> {
        let request = calling();
        let tried = |text_arguments, none_content| {
            let abilities = Self {
                none_content,
                text_arguments,
                ..*all
            };
            let Read { text, .. } = render(&request, &abilities)?;
            let is_whole = ["needletool", "needlekey", "needlevalue", "needleresult"]
                .iter()
                .all(|needle| text.contains(needle));
            // Objects that are shown as Python shows them, text that was quoted twice.
            let is_wrong = ["{'needlekey'", "\\\"needlekey"]
                .iter()
                .any(|wrong| text.contains(wrong));
            (is_whole && !is_wrong).then(|| (abilities, text.matches("None").count()))
        };
        [false, true].into_iter().find_map(|text_arguments| {
            match (tried(text_arguments, false), tried(text_arguments, true)) {
                // No content is better than an empty one, unless the template writes that there is none.
                (Some((_, nones)), Some((abilities, more))) if more <= nones => Some(abilities),
                (Some((abilities, _)), _) | (None, Some((abilities, _))) => Some(abilities),
                (None, None) => None,
            }
        })
    }
}

/// Whether something was written for the image of [`pictured`], and not its description as data.
fn shows_picture(read: &Read) -> bool {
    let place = read.images.first().map(|(_, place)| place.clone());
    let written = place
        .and_then(|place| read.text.get(place))
        .unwrap_or_default();
    let is_data = ["'type'", "\"type\""]
        .iter()
        .any(|key| read.text.contains(key));
    read.text.contains("needletext") && !written.trim().is_empty() && !is_data
}

/// Llama's models say `parameters`.
fn arguments_key(source: &str) -> &'static str {
    if source.contains("<|start_header_id|>") || source.contains("<|python_tag|>") {
        "parameters"
    } else {
        "arguments"
    }
}

fn offering(description: Option<&str>) -> ChatRequest {
    let properties = if description.is_some() {
        serde_json::json!({"needlekey": {"type": "string"}})
    } else {
        serde_json::json!({})
    };
    ChatRequest {
        messages: vec![ChatMessage::new(Role::User, "x")],
        tools: vec![Tool {
            name: "needletool".to_owned(),
            description: description.map(ToOwned::to_owned),
            parameters: Some(serde_json::json!({"type": "object", "properties": properties})),
        }],
        ..ChatRequest::default()
    }
}

fn call() -> ChatMessage {
    ChatMessage {
        tool_calls: vec![ToolCall {
            // Nine letters and digits: Mistral's templates take no other.
            id: "needle001".to_owned(),
            name: "needletool".to_owned(),
            arguments: "{\"needlekey\": \"needlevalue\"}".to_owned(),
        }],
        ..ChatMessage::new(Role::Assistant, "")
    }
}

fn calling() -> ChatRequest {
    let mut request = offering(Some("needledescription"));
    request.messages.push(call());
    request.messages.push(ChatMessage {
        tool_call_id: Some("needle001".to_owned()),
        name: Some("needletool".to_owned()),
        ..ChatMessage::new(Role::Tool, "needleresult")
    });
    request
}

fn thoughtful() -> ChatRequest {
    let mut request = offering(Some("needledescription"));
    request.messages.push(ChatMessage {
        content: "needleone".to_owned(),
        reasoning: Some("needletwo".to_owned()),
        ..call()
    });
    request
}

fn pictured() -> ChatRequest {
    ChatRequest {
        messages: vec![ChatMessage {
            images: vec![Image {
                at: 10,
                data: "AAAA".to_owned(),
            }],
            ..ChatMessage::new(Role::User, "needletext")
        }],
        ..ChatRequest::default()
    }
}
