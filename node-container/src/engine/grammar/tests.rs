//! Schemas that are refused, and schemas that are not.

use serde_json::{Value, json};

use protocol::chat::ResponseFormat;

use super::format;
use super::schema::check;

fn refused(schema: &Value, says: &str) {
    let why = check(schema).expect_err("refused");
    assert!(why.contains(says), "{why}");
}

#[test]
fn a_repetition_beyond_llama_cpp_is_found_at_any_depth() {
    refused(
        &json!({"properties": {"a": {"anyOf": [{"minItems": 2001}]}}}),
        "minItems",
    );
    refused(&json!({"minLength": 5, "maxLength": 2}), "under minLength");
    refused(&json!({"minimum": 5, "maximum": 2}), "under minimum");
    let schema = json!({"properties": {"minItems": {"minItems": 3}}});
    assert_eq!(check(&schema), Ok(()));
}

#[test]
fn data_are_no_keywords_but_every_property_is_a_schema() {
    let schema = json!({"const": {"pattern": "x"}, "properties": {"pattern": {"type": "string"}}});
    assert_eq!(check(&schema), Ok(()));
    for name in ["default", "const", "enum", "examples"] {
        refused(&json!({"properties": {name: {"pattern": "x"}}}), "anchored");
    }
}

#[test]
fn a_reference_without_an_end_is_refused() {
    for schema in [
        json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "allOf": [{"$ref": "#/$defs/a"}]}),
        json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
        json!({"$defs": {"a": {"properties": {"x": {"$ref": "#/$defs/b"}}, "anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
    ] {
        refused(&schema, "leads back");
    }
    for reference in [
        "#",
        "#/nowhere",
        "#/$defs/none",
        "#/$defs/a/b",
        "http://x/y",
        "#/$defs/",
    ] {
        refused(
            &json!({"$defs": {"a": {"b": {}}}, "$ref": reference}),
            "$ref must",
        );
    }
}

#[test]
fn between_two_parts_of_json_is_one_space_at_most() {
    let schema = json!({"type": "object", "properties": {"space": {"type": "array"}}});
    for asked in [
        ResponseFormat::JsonObject,
        ResponseFormat::JsonSchema { schema },
    ] {
        let grammar = format(&asked).expect("a grammar").expect("some");
        let blanks: Vec<&str> = grammar
            .lines()
            .filter(|rule| rule.starts_with("space ") || rule.contains("\\n"))
            .collect();
        assert_eq!(blanks, ["space ::= \" \"?"]);
    }
}

#[test]
fn a_tree_of_references_is_taken() {
    let schema = json!({
        "definitions": {"node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/definitions/node"}}
            },
            "required": ["name", "children"]
        }},
        "$ref": "#/definitions/node"
    });
    assert_eq!(check(&schema), Ok(()));
}

#[test]
fn a_schema_that_unfolds_without_bounds_is_refused_at_once() {
    let mut defs = serde_json::Map::new();
    let mut hidden = serde_json::Map::new();
    for i in 0..45 {
        let next = json!({"$ref": format!("#/$defs/a{}", i + 1)});
        let back = json!({"type": "object", "properties": {"x": {"$ref": format!("#/$defs/a{}", i.max(1) - 1)}}, "required": ["x"]});
        defs.insert(format!("a{i}"), json!({"anyOf": [next, next]}));
        hidden.insert(format!("a{i}"), json!({"anyOf": [next, next, back]}));
    }
    for defs in [&mut defs, &mut hidden] {
        defs.insert("a45".to_owned(), json!({"type": "string"}));
    }
    refused(&json!({"$defs": defs, "$ref": "#/$defs/a0"}), "too large");
    // Entered from its end, each definition is walked only once, but the choices are as many.
    hidden.insert(
        "a45".to_owned(),
        json!({"type": "object", "properties": {"x": {"$ref": "#/$defs/a44"}}, "required": ["x"]}),
    );
    refused(
        &json!({"$defs": hidden, "$ref": "#/$defs/a45"}),
        "alternatives",
    );
}

#[test]
fn many_optional_properties_or_patterns_are_refused() {
    let many = |count: usize, schema: Value| {
        let properties: serde_json::Map<_, _> = (0..count)
            .map(|i| (format!("p{i}"), schema.clone()))
            .collect();
        json!({"type": "object", "properties": properties})
    };
    refused(&many(201, json!({"type": "string"})), "not required");
    assert_eq!(check(&many(200, json!({"type": "string"}))), Ok(()));
    refused(&many(17, json!({"pattern": "^a$"})), "patterns");
}

#[test]
fn types_in_lists_multiply() {
    let mut schema = json!({"type": "string"});
    for _ in 0..12 {
        schema = json!({"type": ["object", "object", "object"], "properties": {"x": schema}, "required": ["x"]});
    }
    refused(&schema, "too large");
}
