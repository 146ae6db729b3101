//! `response_format` → a grammar that the answer cannot leave.
//!
//! llama.cpp turns a JSON schema into a grammar. What it would leave out, or complain about on standard error with words
//! of the request in it, is refused here first, by name: [`schema`] and [`pattern`] let through less than llama.cpp does.

mod pattern;
mod schema;

use llama_cpp_2::json_schema_to_grammar;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use protocol::chat::ResponseFormat;
use protocol::{ErrorCode, Failure};
use serde_json::json;

/// The sampler that keeps to the format, if it asks for any.
pub fn sampler(
    model: &LlamaModel,
    format: &ResponseFormat,
) -> Result<Option<LlamaSampler>, Failure> {
    let object = json!({"type": "object"});
    let schema = match format {
        ResponseFormat::Text => return Ok(None),
        ResponseFormat::JsonObject => &object,
        ResponseFormat::JsonSchema { schema } => schema,
        ResponseFormat::Unknown => return Err(refusal("it is of an unknown type")),
    };
    schema::check(schema).map_err(|why| refusal(&why))?;
    let grammar = json_schema_to_grammar(&schema.to_string()).map_err(|_| {
        refusal("use types, properties, required, enum, const, anyOf, items, lengths and $ref into $defs")
    })?;
    LlamaSampler::grammar(model, &grammar, "root")
        .map(Some)
        .map_err(|_| refusal("it has too many repetitions, or refers to itself without end"))
}

fn refusal(why: &str) -> Failure {
    Failure::new(
        ErrorCode::InvalidRequest,
        format!("this model cannot be held to the response format: {why}"),
    )
    .with_param("response_format")
}

#[cfg(test)]
mod tests;
