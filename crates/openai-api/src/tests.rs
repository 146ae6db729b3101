//! Golden JSON of everything that goes out.

use catalog::Catalog;
use protocol::{ErrorCode, Failure, FinishReason, JobId, Usage};
use serde_json::{Value, json};

use super::*;

const USAGE: Usage = Usage {
    prompt_tokens: 9,
    completion_tokens: 3,
    cached_tokens: 0,
};

fn head() -> CompletionHead {
    CompletionHead::new(
        JobId::from_random([0xab; 16]),
        1_700_000_000,
        "smollm2-135m",
    )
}

fn logprob() -> TokenLogprob {
    TokenLogprob {
        token: "Hi".into(),
        logprob: -0.25,
        bytes: Some(vec![72, 105]),
        top_logprobs: vec![Alternative {
            token: "Yo".into(),
            logprob: f32::NEG_INFINITY,
            bytes: None,
        }],
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The JSON of an event.
fn data(event: &str) -> Value {
    let line = event.strip_prefix("data: ").unwrap();
    let json = line.strip_suffix("\n\n").unwrap();
    assert!(!json.contains('\n'), "an event is one line");
    parsed(json)
}

#[test]
fn a_whole_answer_has_openais_shape() {
    let answer = WholeAnswer {
        text: "Red,\n\"blue\"".into(),
        ..WholeAnswer::default()
    };
    let body = answer.body(&head(), FinishReason::Stop, USAGE);
    let expected = concat!(
        r#"{"id":"chatcmpl-abababababababababababababababab","object":"chat.completion","created":1700000000,"#,
        r#""model":"smollm2-135m","choices":[{"index":0,"message":{"role":"assistant","content":"Red,\n\"blue\"","#,
        r#""refusal":null},"logprobs":null,"finish_reason":"stop"}],"#,
        r#""usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":0}}}"#,
    );
    assert_eq!(body, expected);
}

#[test]
fn reasoning_and_logprobs_are_there_when_they_exist() {
    let answer = WholeAnswer {
        text: "Hi".into(),
        reasoning: "Hm.".into(),
        logprobs: Some(vec![logprob()]),
        ..WholeAnswer::default()
    };
    let body = parsed(&answer.body(&head(), FinishReason::Length, USAGE));
    let choice = &body["choices"][0];
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(choice["message"]["reasoning_content"], "Hm.");
    let expected = json!({"content": [{"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": [
        {"token": "Yo", "logprob": -9999.0, "bytes": null}
    ]}], "refusal": null});
    assert_eq!(choice["logprobs"], expected);
}

#[test]
fn a_whole_answer_of_calls_has_no_content_and_its_calls_are_whole() {
    let mut answer = WholeAnswer::default();
    for piece in ["\u{1e}{\"id\":\"a1\",\"na", "me\":\"f\"}\n{\"x\":", "1}"] {
        answer.push_tool_calls(piece).unwrap();
    }
    let body = parsed(&answer.body(&head(), FinishReason::ToolCalls, USAGE));
    let message = &body["choices"][0]["message"];
    assert_eq!(message["content"], Value::Null);
    let expected = json!([{"id": "a1", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}}]);
    assert_eq!(message["tool_calls"], expected);
    assert_eq!(body["choices"][0]["finish_reason"], "tool_calls");
    assert!(answer.push_tool_calls("\u{1e}?\n").is_err());
}

#[test]
fn vectors_are_told_as_numbers_or_as_base64_and_only_when_all_are_there() {
    let mut vectors = Embeddings::default();
    // 1.0 and -0.5, little-endian; cut in the middle of a line.
    for piece in ["AACAPwAA", "AL8=\nAACAPw==\n"] {
        vectors.push(piece);
    }
    let body = parsed(&vectors.body("m", 2, false, USAGE).unwrap());
    assert_eq!(body["object"], "list");
    assert_eq!(body["data"][0]["embedding"], json!([1.0, -0.5]));
    assert_eq!(body["data"][1]["index"], 1);
    assert_eq!(
        body["usage"],
        json!({"prompt_tokens": 9, "total_tokens": 9})
    );
    let body = parsed(&vectors.body("m", 2, true, USAGE).unwrap());
    assert_eq!(body["data"][1]["embedding"], "AACAPw==");
    assert_eq!(vectors.body("m", 3, true, USAGE), None);
    for broken in ["AACAPw==", "AACAPw==\n\n", "AAA=\n", "?\n", "AACAfw==\n"] {
        let mut vectors = Embeddings::default();
        vectors.push(broken);
        let lines = broken.matches('\n').count().max(1);
        assert_eq!(vectors.body("m", lines, false, USAGE), None, "{broken:?}");
    }
}

#[test]
fn a_nodes_logprobs_are_read_back_and_nonsense_is_not() {
    let written = br#"[{"id":7,"token":"Hi","logprob":-0.25,"bytes":[72,105],"top":[
        {"token":"Yo","logprob":-9999.0,"bytes":[89,111]}]}]"#;
    let read = decode_logprobs(written).unwrap();
    assert_eq!(
        (read[0].token.as_str(), read[0].top_logprobs.len()),
        ("Hi", 1)
    );
    assert_eq!(read[0].top_logprobs[0].bytes.as_deref(), Some(&b"Yo"[..]));
    assert_eq!(decode_logprobs(b"{}"), None);
    assert_eq!(decode_logprobs(b"\xff"), None);
}

#[test]
fn chunks_have_openais_shape() {
    let mut stream = CompletionStream::new(head(), false);
    let chunk = |delta: &str, finish: &str| {
        format!(
            concat!(
                r#"data: {{"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","#,
                r#""created":1700000000,"model":"smollm2-135m","#,
                r#""choices":[{{"index":0,"delta":{},"logprobs":null,"finish_reason":{}}}]}}"#,
                "\n\n"
            ),
            delta, finish
        )
    };
    assert_eq!(
        stream.role(),
        chunk(r#"{"role":"assistant","content":""}"#, "null")
    );
    assert_eq!(
        stream.text("a\n", None),
        chunk(r#"{"content":"a\n"}"#, "null")
    );
    assert_eq!(
        stream.reasoning("b"),
        chunk(r#"{"reasoning_content":"b"}"#, "null")
    );
    let begun = stream
        .tool_calls("\u{1e}{\"id\":\"a1\",\"name\":\"f\"}\n{\"a")
        .unwrap();
    let first = r#"{"tool_calls":[{"index":0,"id":"a1","type":"function","function":{"name":"f","arguments":""}}]}"#;
    let more = r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a"}}]}"#;
    assert_eq!(begun, chunk(first, "null") + &chunk(more, "null"));
    let second = stream
        .tool_calls("\":1}\u{1e}{\"id\":\"a2\",\"name\":\"f\"}\n")
        .unwrap();
    assert!(second.contains(r#""index":0"#) && second.contains(r#""index":1,"id":"a2""#));
    assert!(stream.tool_calls("\u{1e}[]\n").is_err());
    assert_eq!(
        stream.finish(FinishReason::ToolCalls),
        chunk("{}", r#""tool_calls""#)
    );
    assert_eq!(stream.finish(FinishReason::Stop), chunk("{}", r#""stop""#));
    assert_eq!(stream.usage(USAGE), "");
    let with_logprobs = data(&stream.text("Hi", Some(&[logprob()])));
    assert_eq!(
        with_logprobs["choices"][0]["logprobs"]["content"][0]["token"],
        "Hi"
    );
}

#[test]
fn with_include_usage_every_chunk_has_the_field_and_the_last_fills_it() {
    let stream = CompletionStream::new(head(), true);
    for event in [
        stream.role(),
        stream.text("a", None),
        stream.finish(FinishReason::Length),
    ] {
        let chunk = data(&event);
        assert_eq!(chunk.get("usage"), Some(&Value::Null));
    }
    let last = data(&stream.usage(USAGE));
    assert_eq!(last["choices"], json!([]));
    assert_eq!(
        last["usage"],
        json!({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 0}})
    );
}

#[test]
fn comments_and_errors_are_single_events() {
    assert_eq!(sse_comment("waiting\n\ndata: x"), ": waiting  data: x\n\n");
    let error = ApiError::from(Failure::new(ErrorCode::NodeLost, "The node left."));
    let expected = concat!(
        r#"data: {"error":{"message":"The node left.","type":"server_error","param":null,"code":"node_lost"}}"#,
        "\n\n"
    );
    assert_eq!(sse_error(&error), expected);
    assert_eq!(SSE_DONE, "data: [DONE]\n\n");
}

#[test]
fn every_failure_has_its_status_and_code() {
    for (code, status, word) in [
        (ErrorCode::InvalidRequest, 400, "invalid_request"),
        (ErrorCode::UnknownModel, 404, "model_not_found"),
        (
            ErrorCode::ContextLengthExceeded,
            400,
            "context_length_exceeded",
        ),
        (ErrorCode::CapabilityMissing, 400, "unsupported_parameter"),
        (ErrorCode::QueueFull, 503, "queue_full"),
        (ErrorCode::MemoryFull, 503, "memory_full"),
        (ErrorCode::TooLarge, 413, "request_too_large"),
        (ErrorCode::Unauthorized, 401, "invalid_api_key"),
        (ErrorCode::UnknownJob, 404, "unknown_job"),
        (ErrorCode::DuplicateJob, 409, "duplicate_job"),
        (ErrorCode::ProtocolError, 500, "protocol_error"),
        (ErrorCode::NodeLost, 502, "node_lost"),
        (ErrorCode::LeaseExpired, 504, "lease_expired"),
        (ErrorCode::EngineFailed, 502, "engine_failed"),
        (ErrorCode::Draining, 503, "draining"),
        (ErrorCode::Cancelled, 499, "cancelled"),
        (ErrorCode::ClientGone, 499, "client_gone"),
        (ErrorCode::SlowReader, 408, "slow_reader"),
        (ErrorCode::Internal, 500, "internal_error"),
        (ErrorCode::Unknown, 500, "unknown_error"),
    ] {
        let error = ApiError::from(Failure::new(code, "It broke."));
        assert_eq!((error.status, error.code), (status, word));
        let kind = if status < 500 {
            "invalid_request_error"
        } else {
            "server_error"
        };
        assert_eq!(error.kind, kind);
        assert_eq!(error.message, "It broke.");
    }
}

#[test]
fn a_failures_field_and_waiting_time_are_kept() {
    let failure = Failure::new(ErrorCode::QueueFull, "Busy.").with_retry_after_ms(1500);
    let headers = ApiError::from(failure).headers();
    assert!(
        headers.contains(&("retry-after", "2".into())),
        "{headers:?}"
    );
    assert!(headers.contains(&("retry-after-ms", "1500".into())));
    assert!(headers.contains(&("content-type", "application/json".into())));

    let failure = Failure::new(ErrorCode::InvalidRequest, "No.").with_param("seed");
    assert_eq!(ApiError::from(failure).param.as_deref(), Some("seed"));
    let failure = Failure::new(ErrorCode::ContextLengthExceeded, "9,000 tokens, 8,192 fit.");
    assert_eq!(ApiError::from(failure).param.as_deref(), Some("messages"));
}

#[test]
fn the_relays_own_errors_have_openais_shape() {
    let error = ApiError::model_not_found("gpt-4o");
    let expected = json!({"error": {
        "message": "The model `gpt-4o` does not exist. `GET /v1/models` lists the models and tiers.",
        "type": "invalid_request_error", "param": "model", "code": "model_not_found",
    }});
    assert_eq!(parsed(&error.body()), expected);
    assert_eq!(error.status, 404);

    let error = ApiError::unauthorized(true);
    assert_eq!((error.status, error.code), (401, "invalid_api_key"));
    assert!(
        error
            .headers()
            .contains(&("www-authenticate", "Bearer".into()))
    );
    assert!(
        ApiError::unauthorized(false)
            .message
            .contains("Authorization")
    );

    assert_eq!(ApiError::too_large(4).status, 413);
    assert_eq!(ApiError::method_not_allowed("POST").status, 405);
    assert_eq!(
        ApiError::route_not_found("GET", "/v1/x").message,
        "Unknown request URL: GET /v1/x."
    );
}

#[test]
fn the_list_of_models_tells_the_catalog_and_what_is_live() {
    let catalog = Catalog::parse(include_str!("../../../catalog.toml")).unwrap();
    let live = |id: &str| match id {
        "smollm2-135m" => LiveModel {
            nodes: 1,
            slots: 2,
            slots_free: 1,
            queued: 0,
            context_tokens: Some(4096),
        },
        _ => LiveModel::default(),
    };
    let list = parsed(&models_json(&catalog, 1_700_000_000, live));
    assert_eq!(list["object"], "list");
    let expected = json!({
        "id": "smollm2-135m", "object": "model", "created": 1_700_000_000, "owned_by": "heliograph",
        "name": "SmolLM2 135M",
        "description": "135 million parameters, 4-bit. Answers at once, on any machine.",
        "category": "llm", "tier": "demo", "class": "rig",
        "available": 1, "slots": 2, "slots_free": 1, "queued": 0,
        "context": 4096, "capabilities": ["chat", "json_schema", "logprobs"],
        "price": {"prompt_per_mtok": 10_000, "completion_per_mtok": 20_000},
        "licence": {
            "name": "Apache-2.0", "url": "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
            "attribution": "SmolLM2-135M-Instruct by Hugging Face",
        },
    });
    assert_eq!(list["data"][0], expected);
    assert_eq!(list["data"][2]["available"], 0);
    assert_eq!(list["data"][2]["context"], 32768);
    assert_eq!(list["tiers"][0]["id"], "demo");
    assert_eq!(list["tiers"][0]["available"], 1);
    assert_eq!(
        list["tiers"][2]["models"],
        json!(["atlas-30b", "atlas-vision-27b"])
    );
    assert_eq!(list["tiers"][2]["available"], 0);

    let one = model_json(&catalog, "smollm2-135m", 1_700_000_000, live).unwrap();
    assert_eq!(parsed(&one), expected);
    assert_eq!(model_json(&catalog, "demo", 0, live), None);
}
