//! `response_format` → a grammar that the answer cannot leave.
//!
//! llama.cpp turns a JSON schema into a grammar. What it would leave out, or complain about on standard error with words
//! of the request in it, is refused here first, by name.

use llama_cpp_2::json_schema_to_grammar;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use protocol::chat::ResponseFormat;
use protocol::{ErrorCode, Failure};
use serde_json::{Value, json};

/// The most that llama.cpp repeats a rule, which is its own limit.
const REPETITIONS_MAX: u64 = 2000;

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
    check(schema).map_err(|why| refusal(&why))?;
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

/// Looks for what llama.cpp does not enforce. `serde_json` bounds the depth.
fn check(schema: &Value) -> Result<(), String> {
    match schema {
        Value::Object(fields) => fields.iter().try_for_each(|(keyword, value)| {
            match (keyword.as_str(), value) {
                // Data, and no schemas.
                ("const" | "enum" | "default" | "examples", _) => Ok(()),
                ("minLength" | "minItems", Value::Number(count))
                    if count.as_u64().is_some_and(|count| count > REPETITIONS_MAX) =>
                {
                    Err(format!("{keyword} is over {REPETITIONS_MAX}"))
                }
                ("pattern", Value::String(pattern)) => check_pattern(pattern),
                (_, value) => check(value),
            }
        }),
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// llama.cpp takes any string where it does not understand a pattern.
fn check_pattern(pattern: &str) -> Result<(), String> {
    let is_anchored = pattern.starts_with('^') && pattern.ends_with('$');
    let many_digits = pattern
        .split('{')
        .skip(1)
        .any(|count| count.bytes().take_while(u8::is_ascii_digit).count() > 3);
    // `\d`, `\b`, `\1`, …; a backslash before punctuation is fine.
    let has_class = pattern
        .as_bytes()
        .windows(2)
        .any(|pair| matches!(pair, [b'\\', letter] if letter.is_ascii_alphanumeric()));
    let unsupported = "pattern must be anchored with ^ and $, and have no look-around, no repetition over 999 and no classes such as \\d (write [0-9])";
    if !is_anchored || many_digits || has_class || pattern.contains("(?") {
        return Err(unsupported.to_owned());
    }
    // What is left over is seen by what llama.cpp makes of it: a string like any other.
    let schema = json!({"type": "string", "pattern": pattern}).to_string();
    match json_schema_to_grammar(&schema) {
        Ok(grammar) if !grammar.lines().any(|rule| rule == "root ::= string") => Ok(()),
        Ok(_) | Err(_) => Err(unsupported.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_beyond_llama_cpp_is_found_at_any_depth() {
        let schema = json!({"properties": {"a": {"anyOf": [{"minItems": 2001}]}}});
        assert_eq!(check(&schema), Err("minItems is over 2000".to_owned()));
        let schema = json!({"properties": {"minItems": {"minItems": 3}}});
        assert_eq!(check(&schema), Ok(()));
    }

    #[test]
    fn a_pattern_that_would_be_ignored_is_refused() {
        for pattern in [
            "[0-9]+",
            "^(?=x)a$",
            "^a{1000000}$",
            "^[$",
            r"^\bword$",
            r"^\d$",
        ] {
            assert!(check(&json!({"pattern": pattern})).is_err(), "{pattern}");
        }
        for pattern in ["^[0-9]{2,3}$", "^(a|b)*$", r"^a\.b$"] {
            assert_eq!(check(&json!({"pattern": pattern})), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn data_and_property_names_are_no_keywords() {
        let schema =
            json!({"const": {"pattern": "x"}, "properties": {"pattern": {"type": "string"}}});
        assert_eq!(check(&schema), Ok(()));
    }
}
