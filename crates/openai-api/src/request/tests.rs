//! What is honoured, what is accepted and forgotten, and what is refused, by name and in `OpenAI`'s words.

use proptest::prelude::*;
use protocol::Role;
use serde_json::{Value, json};

use super::*;

mod asking;

/// A body with one message and these further fields.
fn with(fields: &Value) -> Value {
    let mut body = json!({"model": "demo", "messages": [{"role": "user", "content": "Hi"}]});
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn parse(body: &Value) -> Result<ChatCompletionRequest, ApiError> {
    parse_chat_completion(body.to_string().as_bytes())
}

#[track_caller]
fn accepted(fields: &Value) -> ChatCompletionRequest {
    parse(&with(fields)).unwrap_or_else(|error| panic!("{fields}: {error}"))
}

#[track_caller]
fn refused(fields: &Value, code: &str, param: &str) -> String {
    let error = parse(&with(fields)).expect_err("it is accepted");
    assert_eq!(error.status, 400);
    assert_eq!(error.kind, "invalid_request_error");
    assert_eq!((error.code, error.param.as_deref()), (code, Some(param)));
    error.message
}

fn said(messages: &Value) -> Vec<ChatMessage> {
    accepted(&json!({ "messages": messages })).request.messages
}

#[test]
fn the_least_request_leaves_everything_to_the_node() {
    let parsed = accepted(&json!({}));
    let expected = ChatCompletionRequest {
        model: "demo".into(),
        stream: false,
        include_usage: false,
        request: ChatRequest {
            messages: vec![ChatMessage {
                role: Role::User,
                content: "Hi".into(),
                ..ChatMessage::default()
            }],
            ..ChatRequest::default()
        },
    };
    assert_eq!(parsed, expected);
}

#[test]
fn every_honoured_field_arrives() {
    let parsed = accepted(&json!({
        "stream": true,
        "stream_options": {"include_usage": true, "include_obfuscation": false},
        "temperature": 0.5, "top_p": 0.25, "top_k": 40, "min_p": 0.125, "seed": 7,
        "presence_penalty": -2, "frequency_penalty": 2.0,
        "logit_bias": {"15": -100, "50256": 1.5},
        "stop": ["\n", "END"],
        "max_completion_tokens": 12,
        "response_format": {"type": "json_object"},
        "logprobs": true, "top_logprobs": 3,
    }));
    assert!(parsed.stream && parsed.include_usage);
    let request = parsed.request;
    let bias = |token, bias| LogitBias { token, bias };
    let expected = Sampling {
        temperature: Some(0.5),
        top_p: Some(0.25),
        top_k: Some(40),
        min_p: Some(0.125),
        seed: Some(7),
        presence_penalty: Some(-2.0),
        frequency_penalty: Some(2.0),
        logit_bias: vec![bias(15, -100.0), bias(50256, 1.5)],
    };
    assert_eq!(request.sampling, expected);
    assert_eq!(request.stop, ["\n", "END"]);
    assert_eq!(request.max_tokens, Some(12));
    assert_eq!(request.response_format, ResponseFormat::JsonObject);
    assert_eq!(request.top_logprobs, Some(3));
}

#[test]
fn null_is_the_same_as_absent() {
    let nulls = json!({
        "stream": null, "stream_options": null, "temperature": null, "stop": null, "n": null, "tools": null,
        "functions": null, "audio": null, "max_tokens": null, "response_format": null, "user": null,
        "logit_bias": null, "seed": null, "logprobs": null, "top_logprobs": null, "metadata": null,
    });
    assert_eq!(accepted(&nulls), accepted(&json!({})));
    refused(
        &json!({"model": null}),
        "missing_required_parameter",
        "model",
    );
}

#[test]
fn ranges_are_inclusive_and_told() {
    for (field, least, most) in [
        ("temperature", 0.0, 2.0),
        ("top_p", 0.0, 1.0),
        ("min_p", 0.0, 1.0),
        ("presence_penalty", -2.0, 2.0),
        ("frequency_penalty", -2.0, 2.0),
    ] {
        accepted(&json!({ field: least }));
        accepted(&json!({ field: most }));
        let message = refused(
            &json!({ field: least - 0.01 }),
            "decimal_below_min_value",
            field,
        );
        assert!(message.contains(&format!(">= {least}")), "{message}");
        let message = refused(
            &json!({ field: most + 0.01 }),
            "decimal_above_max_value",
            field,
        );
        assert!(message.contains(&format!("<= {most}")), "{message}");
    }
    for (field, least, most) in [("max_tokens", 1, u32::MAX), ("top_k", 0, u32::MAX)] {
        accepted(&json!({ field: least }));
        accepted(&json!({ field: most }));
        let below = json!({ field: i64::from(least) - 1 });
        refused(&below, "integer_below_min_value", field);
        let above = json!({ field: u64::from(most) + 1 });
        refused(&above, "integer_above_max_value", field);
    }
    let logprobs = |top: i32| json!({"logprobs": true, "top_logprobs": top});
    assert_eq!(accepted(&logprobs(20)).request.top_logprobs, Some(20));
    refused(&logprobs(21), "integer_above_max_value", "top_logprobs");
    refused(&logprobs(-1), "integer_below_min_value", "top_logprobs");
    let bias = json!({"logit_bias": {"7": 101}});
    refused(&bias, "decimal_above_max_value", "logit_bias.7");
}

#[test]
fn a_negative_seed_keeps_its_bits() {
    let seed = |seed: Value| accepted(&json!({ "seed": seed })).request.sampling.seed;
    assert_eq!(seed(json!(-1)), Some(u64::MAX));
    assert_eq!(seed(json!(u64::MAX)), Some(u64::MAX));
    assert_eq!(seed(json!(i64::MIN)), Some(1 << 63));
}

#[test]
fn a_top_p_of_zero_means_only_the_likeliest_token() {
    let request = accepted(&json!({"top_p": 0})).request;
    assert!(request.sampling.top_p.is_some_and(|share| share > 0.0));
}

#[test]
fn wrong_types_name_the_field_and_both_types() {
    for (field, value, expected) in [
        (
            "temperature",
            json!("hot"),
            "expected a decimal, but got a string",
        ),
        (
            "max_tokens",
            json!(1.5),
            "expected an integer, but got a number",
        ),
        (
            "stream",
            json!("true"),
            "expected a boolean, but got a string",
        ),
        ("stop", json!(5), "expected an array, but got a number"),
        (
            "messages",
            json!("Hi"),
            "expected an array, but got a string",
        ),
        (
            "model",
            json!(["demo"]),
            "expected a string, but got an array",
        ),
        (
            "logit_bias",
            json!([1]),
            "expected an object, but got an array",
        ),
        (
            "response_format",
            json!(true),
            "expected an object, but got a boolean",
        ),
    ] {
        let message = refused(&json!({ field: value }), "invalid_type", field);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn stop_is_a_string_or_a_bounded_list_of_strings() {
    let stop = |stop: Value| accepted(&json!({ "stop": stop })).request.stop;
    assert_eq!(stop(json!("END")), ["END"]);
    assert!(stop(json!([])).is_empty());
    refused(&json!({"stop": ""}), "empty_string", "stop");
    refused(&json!({"stop": ["a", ""]}), "empty_string", "stop[1]");
    let many = vec!["x"; STOPS_MAX + 1];
    refused(&json!({ "stop": many }), "array_above_max_length", "stop");
    let long = "x".repeat(STOP_BYTES_MAX + 1);
    refused(&json!({ "stop": long }), "string_above_max_length", "stop");
    refused(&json!({"stop": [null]}), "invalid_type", "stop[0]");
}

#[test]
fn the_two_maxima_must_agree() {
    let both = |old: u32, new: u32| json!({"max_tokens": old, "max_completion_tokens": new});
    assert_eq!(accepted(&both(5, 5)).request.max_tokens, Some(5));
    refused(&both(5, 6), "invalid_request", "max_tokens");
}

#[test]
fn logprobs_without_alternatives_ask_for_none() {
    let top = |fields: Value| accepted(&fields).request.top_logprobs;
    assert_eq!(top(json!({"logprobs": true})), Some(0));
    assert_eq!(top(json!({"logprobs": false})), None);
    refused(
        &json!({"top_logprobs": 2}),
        "invalid_request",
        "top_logprobs",
    );
}

#[test]
fn stream_options_need_a_stream() {
    let options = json!({"stream_options": {"include_usage": true}});
    refused(&options, "invalid_request", "stream_options");
    let obfuscated = json!({"stream": true, "stream_options": {"include_obfuscation": true}});
    refused(
        &obfuscated,
        "unsupported_value",
        "stream_options.include_obfuscation",
    );
    let unknown = json!({"stream": true, "stream_options": {"colour": 1}});
    refused(&unknown, "unknown_parameter", "stream_options.colour");
}

#[test]
fn a_json_schema_arrives_as_it_is() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    let format = |described: Value| json!({"response_format": {"type": "json_schema", "json_schema": described}});
    let parsed = accepted(&format(
        json!({"name": "an-answer_1", "description": "", "strict": true, "schema": schema}),
    ));
    assert_eq!(
        parsed.request.response_format,
        ResponseFormat::JsonSchema { schema }
    );

    let path = |field: &str| format!("response_format.json_schema.{field}");
    let missing = "missing_required_parameter";
    refused(&format(json!({"schema": {}})), missing, &path("name"));
    refused(&format(json!({"name": "a"})), missing, &path("schema"));
    refused(
        &format(json!({"name": "a b", "schema": {}})),
        "invalid_value",
        &path("name"),
    );
    refused(
        &format(json!({"name": "a", "schema": true})),
        "invalid_type",
        &path("schema"),
    );
    let extra = format(json!({"name": "a", "schema": {}, "colour": 1}));
    refused(&extra, "unknown_parameter", &path("colour"));
    let large = json!({"title": "x".repeat(SCHEMA_BYTES_MAX)});
    let large = format(json!({"name": "a", "schema": large}));
    refused(&large, "object_above_max_size", &path("schema"));
}

#[test]
fn other_response_formats_are_refused() {
    assert_eq!(
        accepted(&json!({"response_format": {"type": "text"}}))
            .request
            .response_format,
        ResponseFormat::Text
    );
    let grammar = json!({"response_format": {"type": "grammar"}});
    let message = refused(&grammar, "unsupported_value", "response_format.type");
    assert!(message.contains("'grammar'"), "{message}");
    let stray = json!({"response_format": {"type": "text", "json_schema": {}}});
    refused(&stray, "unknown_parameter", "response_format.json_schema");
}

#[test]
fn what_asks_for_nothing_special_is_accepted() {
    let habits = json!({
        "n": 1, "store": false, "service_tier": "auto", "modalities": ["text"],
        "user": "someone", "safety_identifier": "a", "prompt_cache_key": "b", "metadata": {"k": "v"},
    });
    assert_eq!(accepted(&habits), accepted(&json!({})));
    accepted(&json!({"service_tier": "default"}));
}

#[test]
fn what_asks_for_more_is_refused_by_its_value() {
    let value = "unsupported_value";
    let message = refused(&json!({"n": 2}), value, "n");
    assert_eq!(
        message,
        "Unsupported value: 'n' does not support the value given. Only 1 is supported."
    );
    refused(&json!({"n": 0}), "integer_below_min_value", "n");
    refused(&json!({"store": true}), value, "store");
    let message = refused(&json!({"service_tier": "flex"}), value, "service_tier");
    assert!(message.contains("'flex'"), "{message}");
    refused(
        &json!({"modalities": ["text", "audio"]}),
        value,
        "modalities[1]",
    );
    refused(
        &json!({"reasoning_effort": "fierce"}),
        value,
        "reasoning_effort",
    );
    refused(&json!({"metadata": {"k": 1}}), "invalid_type", "metadata.k");
    let long_key = json!({"metadata": {"k".repeat(65): "v"}});
    refused(&long_key, "string_above_max_length", "metadata");
    let pairs: serde_json::Map<_, _> = (0..17).map(|n| (n.to_string(), json!("v"))).collect();
    refused(
        &json!({ "metadata": pairs }),
        "object_above_max_properties",
        "metadata",
    );
}

#[test]
fn what_is_not_done_here_is_refused_by_its_name() {
    for field in UNSUPPORTED {
        for value in [json!([]), json!({}), json!(true), json!("x")] {
            let message = refused(&json!({ field: value }), "unsupported_parameter", field);
            assert_eq!(
                message,
                format!("Unsupported parameter: '{field}' is not supported here.")
            );
        }
    }
}

#[test]
fn any_other_field_is_refused_by_its_name_even_if_null() {
    for value in [json!(1), json!(null)] {
        let message = refused(
            &json!({ "temprature": value }),
            "unknown_parameter",
            "temprature",
        );
        assert_eq!(message, "Unknown parameter: 'temprature'.");
    }
    let long = "x".repeat(1000);
    let error = parse(&with(&json!({ long: 1 }))).unwrap_err();
    assert!(error.message.len() < 200, "{error}");
    let many: serde_json::Map<_, _> = (0..100).map(|n| (format!("f{n}"), json!(1))).collect();
    assert_eq!(
        parse(&Value::Object(many)).unwrap_err().code,
        "object_above_max_properties"
    );
}

#[test]
fn a_field_given_twice_is_refused() {
    let body = br#"{"model": "demo", "temperature": 0, "temperature": 2, "messages": []}"#;
    let error = parse_chat_completion(body).unwrap_err();
    assert_eq!(error.code, "duplicate_parameter");
    assert_eq!(error.param.as_deref(), Some("temperature"));
}

#[test]
fn malformed_json_is_refused_with_its_place() {
    for (body, place) in [
        (
            &b"{\"model\": \"demo\",\n  oops}"[..],
            "it is not valid JSON at line 2 column 3",
        ),
        (b"{\"model\": ", "it ends too early at line 1 column 10"),
        (b"", "it ends too early at line 1 column 0"),
        (b"{} {}", "it is not valid JSON at line 1 column 4"),
        (b"[1]", "it is not an object"),
        (b"null", "it is not an object"),
        (b"{\"a\": \"\xff\"}", "byte 8 is not valid UTF-8"),
    ] {
        let error = parse_chat_completion(body).unwrap_err();
        assert_eq!((error.status, error.code), (400, "invalid_json"));
        assert_eq!(
            error.message,
            format!("We could not parse the JSON body of your request: {place}.")
        );
    }
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow() {
    let deep = "[".repeat(100_000);
    let body = format!("{{\"messages\": {deep}");
    assert_eq!(
        parse_chat_completion(body.as_bytes()).unwrap_err().code,
        "invalid_json"
    );
    let nested = format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500));
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"response_format":{{"type":"json_schema","json_schema":{{"name":"n","schema":{nested}}}}}}}"#
    );
    let error = parse_chat_completion(body.as_bytes()).unwrap_err();
    assert_eq!(
        error.param.as_deref(),
        Some("response_format.json_schema.schema")
    );
}

#[test]
fn roles_are_understood_and_developer_is_system() {
    let messages = said(&json!([
        {"role": "system", "content": "a"},
        {"role": "developer", "content": "b", "name": "dev"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": ""},
    ]));
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    assert_eq!(
        roles,
        [Role::System, Role::System, Role::User, Role::Assistant]
    );
    assert_eq!(messages[1].name.as_deref(), Some("dev"));
}

#[test]
fn an_answer_may_be_sent_back_as_the_libraries_hold_it() {
    let messages = said(&json!([
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello", "refusal": null, "annotations": [], "audio": null,
         "function_call": null, "tool_calls": null},
        {"role": "user", "content": "And?"},
    ]));
    assert_eq!(messages[1].content, "Hello");
}

#[test]
fn text_parts_are_joined_by_a_line_break() {
    let messages = said(&json!([{"role": "user", "content": [
        {"type": "text", "text": "one"}, {"type": "text", "text": "two"}
    ]}]));
    assert_eq!(messages[0].content, "one\ntwo");
}

#[test]
fn faults_in_messages_name_the_very_field() {
    for (message, code, param) in [
        (
            json!({"content": "x"}),
            "missing_required_parameter",
            "messages[0].role",
        ),
        (
            json!({"role": "user"}),
            "missing_required_parameter",
            "messages[0].content",
        ),
        (
            json!({"role": "assistant", "content": null}),
            "missing_required_parameter",
            "messages[0].content",
        ),
        (
            json!({"role": "user", "content": 5}),
            "invalid_type",
            "messages[0].content",
        ),
        (
            json!({"role": "bard", "content": "x"}),
            "unsupported_value",
            "messages[0].role",
        ),
        (
            json!({"role": "function", "content": "x"}),
            "unsupported_value",
            "messages[0].role",
        ),
        (
            json!({"role": "user", "content": "x", "name": ""}),
            "empty_string",
            "messages[0].name",
        ),
        (
            json!({"role": "assistant", "tool_calls": [{"id": "1", "type": "custom"}]}),
            "unsupported_value",
            "messages[0].tool_calls[0].type",
        ),
        (
            json!({"role": "user", "content": "x", "colour": 1}),
            "unknown_parameter",
            "messages[0].colour",
        ),
        (json!("x"), "invalid_type", "messages[0]"),
        (
            json!({"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "input_audio"}]}),
            "unsupported_value",
            "messages[0].content[1].type",
        ),
        (
            json!({"role": "user", "content": [{"type": "text"}]}),
            "missing_required_parameter",
            "messages[0].content[0].text",
        ),
        (
            json!({"role": "user", "content": [{"type": "text", "text": "x", "size": 1}]}),
            "unknown_parameter",
            "messages[0].content[0].size",
        ),
    ] {
        refused(&json!({"messages": [message]}), code, param);
    }
}

#[test]
fn a_conversation_is_neither_empty_nor_endless() {
    refused(&json!({"messages": []}), "empty_array", "messages");
    let many = vec![json!({"role": "user", "content": "x"}); MESSAGES_MAX + 1];
    refused(
        &json!({ "messages": many }),
        "array_above_max_length",
        "messages",
    );
}

#[test]
fn text_with_a_lone_surrogate_is_refused() {
    let body = br#"{"model": "demo", "messages": [{"role": "user", "content": "\ud800"}]}"#;
    let error = parse_chat_completion(body).unwrap_err();
    assert_eq!(error.status, 400);
}

#[test]
fn no_refusal_quotes_a_message() {
    let marker = "secret-marker-2718";
    let bodies = [
        json!({"model": 1, "messages": [{"role": "user", "content": marker}]}),
        json!({"model": "m", "messages": [{"role": "user", "content": [marker]}]}),
        json!({"model": "m", "messages": [{"role": "user", "content": {"text": marker}}]}),
        json!({"model": "m", "messages": [marker]}),
        json!({"model": "m", "messages": [{"role": "user", "content": marker, "tool_calls": marker}]}),
        json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "stop": [marker, marker.repeat(50)]}),
    ];
    for body in bodies {
        let error = parse(&body).unwrap_err();
        assert!(!error.body().contains(marker), "{}", error.body());
    }
    let broken = format!("{{\"messages\": \"{marker}\" oops");
    let error = parse_chat_completion(broken.as_bytes()).unwrap_err();
    assert!(!error.body().contains(marker));
}

/// Bodies that are nearly right, so that the deeper paths are reached.
fn nearly_valid() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<f64>().prop_map(|number| json!(number).to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        "\\PC{0,8}".prop_map(|text| json!(text).to_string()),
        Just("[]".to_owned()),
        Just("[\"x\", 1, null]".to_owned()),
        Just(
            "{\"type\": \"json_schema\", \"json_schema\": {\"name\": \"n\", \"schema\": {}}}"
                .to_owned()
        ),
        Just("{\"1\": 2, \"-1\": 3}".to_owned()),
        Just("1e999".to_owned()),
        Just(
            "[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"x\"}]}]"
                .to_owned()
        ),
    ];
    let name = proptest::sample::select(vec![
        "model",
        "messages",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "stop",
        "max_tokens",
        "max_completion_tokens",
        "presence_penalty",
        "logit_bias",
        "response_format",
        "logprobs",
        "top_logprobs",
        "n",
        "store",
        "metadata",
        "modalities",
        "tool_choice",
        "tools",
        "user",
        "other",
    ]);
    proptest::collection::btree_map(name, value, 0..8).prop_map(|fields| {
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("\"{name}\": {value}"))
            .collect();
        format!(
            "{{\"model\": \"m\", \"messages\": [{{\"role\": \"user\", \"content\": \"x\"}}]{}{}}}",
            if fields.is_empty() { "" } else { ", " },
            fields.join(", ")
        )
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..256)) {
        if let Err(error) = parse_chat_completion(&body) {
            prop_assert_eq!(error.status, 400);
        }
    }

    #[test]
    fn nearly_valid_bodies_are_valid_requests_or_errors(body in nearly_valid()) {
        match parse_chat_completion(body.as_bytes()) {
            Ok(parsed) => prop_assert!(parsed.request.validate().is_ok()),
            Err(error) => prop_assert_eq!(error.status, 400),
        }
    }
}
