//! Every rule of a request and of a node's hello: the last value that passes, and the first that does not.

use serde_json::json;

use crate::chat::{LogitBias, ResponseFormat};
use crate::limits::{
    ANNOUNCES_MAX, ANSWER_BYTES_MAX, LOGIT_BIASES_MAX, MESSAGES_MAX, NAME_BYTES_MAX,
    NODE_MODELS_MAX, NODE_SLOTS_MAX, SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, STOP_BYTES_MAX, STOPS_MAX,
    TICKET_BYTES_MAX, TOP_LOGPROBS_MAX,
};
use crate::{
    AnswerHash, Capabilities, ChatMessage, ChatRequest, JobId, ModelOffer, NodeClass, NodeToRelay,
    Role,
};

fn message() -> ChatMessage {
    ChatMessage {
        role: Role::User,
        content: String::new(),
        ..ChatMessage::default()
    }
}

fn request() -> ChatRequest {
    ChatRequest {
        messages: vec![message()],
        ..ChatRequest::default()
    }
}

/// The field that a changed request is refused for, if it is.
fn fault(change: impl FnOnce(&mut ChatRequest)) -> Option<&'static str> {
    let mut request = request();
    change(&mut request);
    let fault = request.validate().err()?;
    assert!(!fault.message.is_empty());
    Some(fault.param)
}

#[test]
fn an_ordinary_request_is_valid() {
    assert_eq!(fault(|_| ()), None);
}

#[test]
fn messages_are_one_to_the_limit_of_known_roles_and_short_names() {
    assert_eq!(fault(|r| r.messages.clear()), Some("messages"));
    assert_eq!(fault(|r| r.messages = vec![message(); MESSAGES_MAX]), None);
    assert_eq!(
        fault(|r| r.messages = vec![message(); MESSAGES_MAX + 1]),
        Some("messages")
    );
    assert_eq!(
        fault(|r| r.messages[0].role = Role::Unknown),
        Some("messages")
    );
    let name = |bytes| Some("n".repeat(bytes));
    assert_eq!(fault(|r| r.messages[0].name = name(NAME_BYTES_MAX)), None);
    assert_eq!(
        fault(|r| r.messages[0].name = name(NAME_BYTES_MAX + 1)),
        Some("messages")
    );
}

#[test]
fn every_sampling_number_has_its_range() {
    type Setter = fn(&mut ChatRequest, f32);
    let fields: [(&str, Setter, f32, f32); 5] = [
        (
            "temperature",
            |r, v| r.sampling.temperature = Some(v),
            0.0,
            2.0,
        ),
        (
            "top_p",
            |r, v| r.sampling.top_p = Some(v),
            f32::MIN_POSITIVE,
            1.0,
        ),
        ("min_p", |r, v| r.sampling.min_p = Some(v), 0.0, 1.0),
        (
            "presence_penalty",
            |r, v| r.sampling.presence_penalty = Some(v),
            -2.0,
            2.0,
        ),
        (
            "frequency_penalty",
            |r, v| r.sampling.frequency_penalty = Some(v),
            -2.0,
            2.0,
        ),
    ];
    for (name, set, least, most) in fields {
        for good in [least, most, f32::midpoint(least, most)] {
            assert_eq!(fault(|r| set(r, good)), None, "{name} {good}");
        }
        for bad in [
            least - 0.01,
            most + 0.01,
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
        ] {
            assert_eq!(fault(|r| set(r, bad)), Some(name), "{name} {bad}");
        }
    }
    assert_eq!(fault(|r| r.sampling.top_p = Some(0.0)), Some("top_p"));
}

#[test]
fn logit_biases_are_bounded_in_number_and_size() {
    let biases = |count, bias| vec![LogitBias { token: 0, bias }; count];
    assert_eq!(
        fault(|r| r.sampling.logit_bias = biases(LOGIT_BIASES_MAX, 100.0)),
        None
    );
    assert_eq!(
        fault(|r| r.sampling.logit_bias = biases(LOGIT_BIASES_MAX + 1, 0.0)),
        Some("logit_bias")
    );
    for bad in [-100.5, 100.5, f32::NAN] {
        assert_eq!(
            fault(|r| r.sampling.logit_bias = biases(1, bad)),
            Some("logit_bias")
        );
    }
}

#[test]
fn stop_strings_are_few_short_and_not_empty() {
    let stops = |count, bytes| vec!["s".repeat(bytes); count];
    assert_eq!(fault(|r| r.stop = stops(STOPS_MAX, STOP_BYTES_MAX)), None);
    assert_eq!(fault(|r| r.stop = stops(STOPS_MAX + 1, 1)), Some("stop"));
    assert_eq!(
        fault(|r| r.stop = stops(1, STOP_BYTES_MAX + 1)),
        Some("stop")
    );
    assert_eq!(fault(|r| r.stop = stops(1, 0)), Some("stop"));
}

#[test]
fn counts_of_tokens_are_bounded() {
    assert_eq!(fault(|r| r.max_tokens = Some(1)), None);
    assert_eq!(fault(|r| r.max_tokens = Some(0)), Some("max_tokens"));
    assert_eq!(fault(|r| r.top_logprobs = Some(0)), None);
    assert_eq!(fault(|r| r.top_logprobs = Some(TOP_LOGPROBS_MAX)), None);
    assert_eq!(
        fault(|r| r.top_logprobs = Some(TOP_LOGPROBS_MAX + 1)),
        Some("top_logprobs")
    );
}

#[test]
fn a_schema_is_of_bounded_depth() {
    let nested = |levels: usize| {
        let schema = (1..levels).fold(json!({}), |inner, _| json!({ "not": inner }));
        ResponseFormat::JsonSchema { schema }
    };
    assert_eq!(
        fault(|r| r.response_format = nested(SCHEMA_DEPTH_MAX)),
        None
    );
    assert_eq!(
        fault(|r| r.response_format = nested(SCHEMA_DEPTH_MAX + 1)),
        Some("response_format")
    );
}

#[test]
fn a_schema_is_an_object_of_bounded_size() {
    let schema = |value| ResponseFormat::JsonSchema { schema: value };
    assert_eq!(
        fault(|r| r.response_format = ResponseFormat::JsonObject),
        None
    );
    assert_eq!(fault(|r| r.response_format = schema(json!({}))), None);
    for bad in [json!(null), json!([]), json!(true), json!("object")] {
        assert_eq!(
            fault(|r| r.response_format = schema(bad)),
            Some("response_format")
        );
    }
    // {"a":"…"} has eight bytes around its text.
    let sized = |bytes: usize| schema(json!({"a": "x".repeat(bytes - 8)}));
    assert_eq!(fault(|r| r.response_format = sized(SCHEMA_BYTES_MAX)), None);
    assert_eq!(
        fault(|r| r.response_format = sized(SCHEMA_BYTES_MAX + 1)),
        Some("response_format")
    );
    assert_eq!(
        fault(|r| r.response_format = ResponseFormat::Unknown),
        Some("response_format")
    );
}

fn offer() -> ModelOffer {
    ModelOffer {
        model: "m".to_owned(),
        runtime: "r".to_owned(),
        context_tokens: 1,
        capabilities: Capabilities::default(),
        measured: None,
    }
}

fn hello(name: &str, software: &str, slots: u32, models: Vec<ModelOffer>) -> bool {
    NodeToRelay::Hello {
        key: None,
        name: name.to_owned(),
        class: NodeClass::Rig,
        software: software.to_owned(),
        slots,
        models,
        announces: 0,
        machine: None,
    }
    .validate()
    .is_ok()
}

#[test]
fn a_hello_has_names_slots_and_models_within_their_limits() {
    let long = "n".repeat(NAME_BYTES_MAX);
    let too_long = "n".repeat(NAME_BYTES_MAX + 1);
    assert!(hello(
        &long,
        &long,
        NODE_SLOTS_MAX,
        vec![offer(); NODE_MODELS_MAX]
    ));
    assert!(!hello("", "s", 1, vec![offer()]));
    assert!(!hello(&too_long, "s", 1, vec![offer()]));
    assert!(!hello("n", "", 1, vec![offer()]));
    assert!(!hello("n", &too_long, 1, vec![offer()]));
    assert!(!hello("n", "s", 0, vec![offer()]));
    assert!(!hello("n", "s", NODE_SLOTS_MAX + 1, vec![offer()]));
    assert!(!hello("n", "s", 1, vec![]));
    assert!(!hello("n", "s", 1, vec![offer(); NODE_MODELS_MAX + 1]));
}

#[test]
fn a_node_announces_no_more_than_the_limit() {
    let hello = |announces| NodeToRelay::Hello {
        key: None,
        name: "n".to_owned(),
        class: NodeClass::Rig,
        software: "s".to_owned(),
        slots: 1,
        models: vec![offer()],
        announces,
        machine: None,
    };
    assert_eq!(hello(ANNOUNCES_MAX).validate(), Ok(()));
    assert!(hello(ANNOUNCES_MAX + 1).validate().is_err());
}

#[test]
fn an_announcement_has_a_short_ticket_and_offsets_that_fit() {
    let announce = |ticket_bytes, from, offset| {
        NodeToRelay::Announce {
            job: JobId::from_random([1; 16]),
            attempt: 1,
            ticket: "t".repeat(ticket_bytes),
            from,
            hash: AnswerHash::default(),
            offset,
            ended: false,
        }
        .validate()
        .is_ok()
    };
    assert!(announce(TICKET_BYTES_MAX, 0, 0));
    assert!(!announce(TICKET_BYTES_MAX + 1, 0, 0));
    assert!(announce(1, 7, 7));
    assert!(!announce(1, 8, 7));
    assert!(announce(1, 0, ANSWER_BYTES_MAX));
    assert!(!announce(1, 0, ANSWER_BYTES_MAX + 1));
}

#[test]
fn an_offered_model_has_an_id_a_runtime_and_a_context() {
    let changed = |change: fn(&mut ModelOffer)| {
        let mut offer = offer();
        change(&mut offer);
        hello("n", "s", 1, vec![offer])
    };
    assert!(changed(|_| ()));
    assert!(!changed(|o| o.model.clear()));
    assert!(!changed(|o| o.runtime.clear()));
    assert!(!changed(|o| o.context_tokens = 0));
    assert!(!changed(|o| o.model = "m".repeat(NAME_BYTES_MAX + 1)));
}
