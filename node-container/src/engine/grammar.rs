//! `response_format` and `tools` → grammars that the answer cannot leave.
//!
//! llama.cpp turns a JSON schema into a grammar. What it would leave out, or complain about on standard error with words
//! of the request in it, is refused here first, by name: [`schema`] and [`pattern`] let through less than llama.cpp does.
//!
//! Which grammar holds when is [`steering`]'s: a format holds from the beginning or after the thoughts; calls are held to
//! their tools where they must be made, and else from where the model begins one.

mod pattern;
mod schema;
pub mod steering;

use chat_format::gbnf::ToolRules;
use llama_cpp_2::json_schema_to_grammar;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use protocol::chat::{ResponseFormat, Tool};
use protocol::{ErrorCode, Failure};
use serde_json::{Value, json};

/// What a request asks to be held to.
#[derive(Debug, Clone, Copy)]
enum Subject {
    Format,
    /// A tool's parameters; tools count from 1.
    Tool(usize),
    /// All tools together.
    Tools,
}

impl Subject {
    /// Why it cannot be. The sentence never quotes the schema.
    fn refusal(self, why: &str) -> Failure {
        let (what, param) = match self {
            Self::Format => ("the response format".to_owned(), "response_format"),
            Self::Tool(number) => (format!("the parameters of tool {number}"), "tools"),
            Self::Tools => ("the tools".to_owned(), "tools"),
        };
        Failure::new(
            ErrorCode::InvalidRequest,
            format!("this model cannot be held to {what}: {why}"),
        )
        .with_param(param)
    }

    /// A schema's grammar.
    fn grammar(self, schema: &Value) -> Result<String, Failure> {
        schema::check(schema).map_err(|why| self.refusal(&why))?;
        let grammar = json_schema_to_grammar(&schema.to_string()).map_err(|_| {
            self.refusal("use types, properties, required, enum, const, anyOf, items, lengths and $ref into $defs")
        })?;
        Ok(compact(&grammar))
    }

    fn compile(self, model: &LlamaModel, grammar: &str) -> Result<LlamaSampler, Failure> {
        LlamaSampler::grammar(model, grammar, "root").map_err(|_| {
            self.refusal("it has too many repetitions, or refers to itself without end")
        })
    }
}

/// JSON with a space between two tokens at most. llama.cpp also lets a model write two line breaks and 20 blanks there,
/// which small models do until `max_tokens` is spent.
fn compact(grammar: &str) -> String {
    let mut compact = String::with_capacity(grammar.len());
    for rule in grammar.lines() {
        // llama.cpp takes this name first, so no definition of a schema can have it.
        let is_space = rule.starts_with("space ::= ");
        compact.push_str(if is_space { "space ::= \" \"?" } else { rule });
        compact.push('\n');
    }
    compact
}

/// The format's grammar, if it asks for any.
fn format(format: &ResponseFormat) -> Result<Option<String>, Failure> {
    let object = json!({"type": "object"});
    let schema = match format {
        ResponseFormat::Text => return Ok(None),
        ResponseFormat::JsonObject => &object,
        ResponseFormat::JsonSchema { schema } => schema,
        ResponseFormat::Unknown => {
            return Err(Subject::Format.refusal("it is of an unknown type"));
        }
    };
    Subject::Format.grammar(schema).map(Some)
}

/// The rules of each tool's arguments. Where calls are the model's own choice, a tool that it cannot be held to takes any
/// object: whoever offers many tools is better served by that than by a refusal for one that may never be called.
fn tools(tools: &[Tool], is_choice: bool) -> Result<Vec<ToolRules>, Failure> {
    let any = json!({"type": "object"});
    (1..)
        .zip(tools)
        .map(|(number, tool)| {
            let arguments = match arguments(Subject::Tool(number), tool) {
                Err(_) if is_choice => Subject::Tool(number).grammar(&any)?,
                arguments => arguments?,
            };
            Ok(ToolRules {
                name: tool.name.clone(),
                arguments,
            })
        })
        .collect()
}

fn arguments(subject: Subject, tool: &Tool) -> Result<String, Failure> {
    let none = json!({"type": "object", "properties": {}});
    let any = json!({"type": "object"});
    let schema = match &tool.parameters {
        None => &none,
        Some(Value::Object(fields)) if fields.is_empty() => &any,
        Some(schema) => schema,
    };
    if schema.get("type").is_some_and(|kind| kind != "object") {
        return Err(subject.refusal("they must be an object"));
    }
    subject.grammar(schema)
}

#[cfg(test)]
mod tests;
