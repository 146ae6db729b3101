//! Tools, pictures, thinking, and requests for embeddings.

use protocol::chat::{ReasoningEffort, ToolChoice};
use protocol::limits::{EMBED_INPUTS_MAX, TOOLS_MAX};
use serde_json::{Value, json};

use super::*;

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "description": "d", "strict": true,
        "parameters": {"type": "object"}}})
}

#[test]
fn tools_and_how_they_are_chosen_are_taken_over() {
    let choose = |choice: Value| {
        let fields = json!({"tools": [tool("a"), tool("b")], "tool_choice": choice});
        accepted(&fields).request.tool_choice
    };
    assert_eq!(choose(Value::Null), ToolChoice::Auto);
    assert_eq!(choose(json!("auto")), ToolChoice::Auto);
    assert_eq!(choose(json!("none")), ToolChoice::None);
    assert_eq!(choose(json!("required")), ToolChoice::Required);
    let named = json!({"type": "function", "function": {"name": "b"}});
    let name = "b".to_owned();
    assert_eq!(choose(named), ToolChoice::Function { name });
    let bare = json!({"tools": [{"type": "function", "function": {"name": "a"}}],
        "parallel_tool_calls": false});
    let request = accepted(&bare).request;
    assert_eq!(request.tools[0].parameters, None);
    assert_eq!(request.parallel_tool_calls, Some(false));
}

#[test]
fn faults_in_tools_name_the_very_field() {
    let custom = json!({"tools": [{"type": "custom"}]});
    refused(&custom, "unsupported_value", "tools[0].type");
    let nameless = json!({"tools": [{"type": "function", "function": {}}]});
    let name = "tools[0].function.name";
    refused(&nameless, "missing_required_parameter", name);
    let odd = json!({"tools": [{"type": "function", "function": {"name": "a", "x": 1}}]});
    refused(&odd, "unknown_parameter", "tools[0].function.x");
    refused(&json!({"tools": [tool("a b")]}), "invalid_request", "tools");
    let many: Vec<Value> = (0..=TOOLS_MAX).map(|n| tool(&format!("t{n}"))).collect();
    refused(&json!({ "tools": many }), "array_above_max_length", "tools");
    let required = json!({"tool_choice": "required"});
    refused(&required, "invalid_request", "tool_choice");
    let sometimes = json!({"tool_choice": "sometimes"});
    refused(&sometimes, "unsupported_value", "tool_choice");
}

#[test]
fn a_turn_of_tools_may_be_sent_back_as_the_libraries_hold_it() {
    let messages = said(&json!([
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": null, "refusal": null, "reasoning_content": "hm", "tool_calls": [
            {"id": "c1", "type": "function", "index": 0, "function": {"name": "w", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "assistant", "content": "It", "tool_calls": []},
    ]));
    assert_eq!(messages[1].tool_calls[0].name, "w");
    assert_eq!(messages[1].reasoning.as_deref(), Some("hm"));
    assert_eq!(messages[2].tool_call_id.as_deref(), Some("c1"));
    assert_eq!(messages[3].content, "It");
}

#[test]
fn pictures_are_data_urls_and_keep_their_places() {
    let picture =
        |url: &str| json!({"type": "image_url", "image_url": {"url": url, "detail": "low"}});
    let messages = said(&json!([{"role": "user", "content": [
        {"type": "text", "text": "one"}, picture("data:image/png;base64,AAAA"),
        {"type": "text", "text": "two"}, {"type": "text", "text": "three"},
        picture("data:image/jpeg;base64,BBB=")
    ]}]));
    assert_eq!(messages[0].content, "onetwo\nthree");
    let places: Vec<(u32, &str)> = messages[0]
        .images
        .iter()
        .map(|image| (image.at, image.data.as_str()))
        .collect();
    assert_eq!(places, [(3, "AAAA"), (12, "BBB=")]);
    for url in [
        "https://example.org/a.png",
        "data:image/png;base64,",
        "data:image/png;base64,?",
        "data:text/plain;base64,AAAA",
    ] {
        let message = json!({"role": "user", "content": [picture(url)]});
        let param = "messages[0].content[0].image_url.url";
        let said = refused(&json!({"messages": [message]}), "invalid_value", param);
        assert!(!said.contains("example.org"), "content is never quoted");
    }
}

#[test]
fn thinking_is_asked_for_in_either_way() {
    let effort = |fields: Value| accepted(&fields).request.reasoning;
    assert_eq!(effort(json!({})), None);
    for (word, expected) in [
        ("none", ReasoningEffort::None),
        ("minimal", ReasoningEffort::Low),
        ("high", ReasoningEffort::High),
    ] {
        assert_eq!(effort(json!({"reasoning_effort": word})), Some(expected));
    }
    let off = json!({"chat_template_kwargs": {"enable_thinking": false}});
    assert_eq!(effort(off), Some(ReasoningEffort::None));
}

#[test]
fn embeddings_are_asked_for_by_a_text_or_by_several() {
    let parse = |body: &Value| parse_embeddings(body.to_string().as_bytes());
    let one = parse(&json!({"model": "m", "input": "a"})).unwrap();
    assert_eq!(one.request.inputs, ["a"]);
    assert!(!one.is_base64);
    let more = json!({"model": "m", "input": ["a", "b"], "encoding_format": "base64",
        "dimensions": 8, "user": "u"});
    let more = parse(&more).unwrap();
    assert_eq!((more.request.inputs.len(), more.is_base64), (2, true));
    assert_eq!(more.request.dimensions, Some(8));
    let many = vec!["a"; EMBED_INPUTS_MAX + 1];
    for (body, param) in [
        (json!({"input": "a"}), "model"),
        (json!({"model": "m"}), "input"),
        (json!({"model": "m", "input": ""}), "input"),
        (json!({"model": "m", "input": []}), "input"),
        (json!({"model": "m", "input": [[1, 2]]}), "input[0]"),
        (json!({"model": "m", "input": many}), "input"),
        (
            json!({"model": "m", "input": "a", "dimensions": 0}),
            "dimensions",
        ),
        (
            json!({"model": "m", "input": "a", "encoding_format": "x"}),
            "encoding_format",
        ),
        (
            json!({"model": "m", "input": "a", "stream": true}),
            "stream",
        ),
    ] {
        let error = parse(&body).expect_err("it is accepted");
        assert_eq!(error.param.as_deref(), Some(param), "{body}");
    }
}
