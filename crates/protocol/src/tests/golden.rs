//! Golden control frames: what version 1 looks like on the wire, byte for byte.
//!
//! The fixtures were written by hand from the specification, not by the code that they check.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::strategies::ERROR_CODES;
use crate::chat::{LogitBias, ResponseFormat, Sampling};
use crate::limits::{CLIENT_FRAME_BYTES_MAX, NODE_FRAME_BYTES_MAX, RELAY_FRAME_BYTES_MAX};
use crate::{
    Capabilities, ChatMessage, ChatRequest, ClientToRelay, CloseCode, ErrorCode, Failure,
    FinishReason, JobId, ModelOffer, NodeClass, NodeToRelay, PING, PONG, RelayToClient,
    RelayToNode, Role, Speed, Usage, decode, encode,
};

pub(super) fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/v1"))
}

fn fixture(name: &str) -> String {
    let path = folder().join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim_end_matches('\n').to_owned()
}

/// Names of the fixtures with this prefix and ending, both removed.
fn names(prefix: &str, ending: &str) -> BTreeSet<String> {
    fs::read_dir(folder())
        .unwrap()
        .filter_map(|file| {
            let name = file.unwrap().file_name().into_string().unwrap();
            let inner = name.strip_prefix(prefix)?.strip_suffix(ending)?;
            Some(inner.to_owned())
        })
        .collect()
}

/// Every fixture of the direction decodes to its message and the message encodes to the very same bytes.
fn check<T>(direction: &str, bytes_max: usize, cases: &[(&str, T)])
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    for (name, message) in cases {
        let text = fixture(&format!("{direction}.{name}.json"));
        assert_eq!(
            decode::<T>(&text, bytes_max).as_ref(),
            Ok(message),
            "{name}"
        );
        assert_eq!(encode(message), text, "{name}");
        let tag = name.split('.').next().unwrap();
        assert!(text.starts_with(&format!(r#"{{"type":"{tag}""#)), "{name}");
    }
    let checked = cases.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(
        names(&format!("{direction}."), ".json"),
        checked,
        "fixtures without a case, or cases without a fixture"
    );
}

fn job() -> JobId {
    "0f1e2d3c4b5a69788796a5b4c3d2e1f0".parse().unwrap()
}

fn usage(completion_tokens: u32) -> Usage {
    Usage {
        prompt_tokens: 36,
        completion_tokens,
    }
}

fn not_of_this_direction() -> Failure {
    Failure::new(ErrorCode::ProtocolError, "Not a message of this direction.")
}

fn message(role: Role, content: &str) -> ChatMessage {
    ChatMessage {
        role,
        content: content.to_owned(),
        name: None,
    }
}

fn smallest_request() -> ChatRequest {
    ChatRequest {
        messages: vec![message(Role::User, "Name three primary colours.")],
        ..ChatRequest::default()
    }
}

fn fullest_request() -> ChatRequest {
    ChatRequest {
        messages: vec![
            message(Role::System, "Answer in JSON."),
            ChatMessage {
                name: Some("ada".to_owned()),
                ..message(Role::User, "Größe? \"1\"\n")
            },
            message(Role::Assistant, "{}"),
        ],
        sampling: Sampling {
            temperature: Some(0.7),
            top_p: Some(0.95),
            top_k: Some(40),
            min_p: Some(0.05),
            seed: Some(18_446_744_073_709_551_615),
            presence_penalty: Some(-0.5),
            frequency_penalty: Some(0.25),
            logit_bias: vec![LogitBias {
                token: 50_256,
                bias: -100.0,
            }],
        },
        stop: vec!["\n\n".to_owned(), "END".to_owned()],
        max_tokens: Some(256),
        response_format: ResponseFormat::JsonSchema {
            schema: json!({"properties": {"size": {"type": "number"}}, "type": "object"}),
        },
        top_logprobs: Some(2),
    }
}

#[test]
fn client_to_relay_fixtures_decode_and_encode() {
    check(
        "client-to-relay",
        CLIENT_FRAME_BYTES_MAX,
        &[
            (
                "hello",
                ClientToRelay::Hello {
                    key: Some("hg-example".to_owned()),
                },
            ),
            ("hello.open", ClientToRelay::Hello { key: None }),
            (
                "submit",
                ClientToRelay::Submit {
                    job: job(),
                    model: "light".to_owned(),
                    request: smallest_request(),
                },
            ),
            (
                "submit.full",
                ClientToRelay::Submit {
                    job: job(),
                    model: "smollm2-135m".to_owned(),
                    request: fullest_request(),
                },
            ),
            (
                "acknowledge",
                ClientToRelay::Acknowledge {
                    job: job(),
                    offset: 4096,
                },
            ),
            ("cancel", ClientToRelay::Cancel { job: job() }),
            ("ping", ClientToRelay::Ping),
        ],
    );
}

/// From the connection to the node's first word.
fn relay_to_client_beginnings() -> Vec<(&'static str, RelayToClient)> {
    let model = || "smollm2-135m".to_owned();
    let account = "local".to_owned();
    let queued = RelayToClient::Queued {
        job: job(),
        model: model(),
        position: 3,
        nodes: 1,
    };
    let assigned = RelayToClient::Assigned {
        job: job(),
        attempt: 1,
        alias: 7,
        model: model(),
        node: "rig-1".to_owned(),
        class: NodeClass::Rig,
    };
    let started = RelayToClient::Started {
        job: job(),
        prompt_tokens: 36,
        context_tokens: 8192,
    };
    vec![
        ("welcome", RelayToClient::Welcome { account }),
        ("queued", queued),
        ("assigned", assigned),
        ("started", started),
        ("pong", RelayToClient::Pong),
    ]
}

/// How a job, or a frame, ends.
fn relay_to_client_ends() -> Vec<(&'static str, RelayToClient)> {
    let completed = RelayToClient::Completed {
        job: job(),
        offset: 23,
        finish_reason: FinishReason::Stop,
        usage: usage(8),
        speed: Speed {
            queued_ms: 0,
            first_token_ms: 120,
            decode_tokens_per_second: 84.5,
        },
    };
    let failed = RelayToClient::Failed {
        job: job(),
        failure: Failure::new(
            ErrorCode::ContextLengthExceeded,
            "The prompt has 9000 tokens; the model's context is 8192.",
        )
        .with_param("messages"),
    };
    let refused = RelayToClient::Refused {
        failure: not_of_this_direction(),
    };
    vec![
        ("completed", completed),
        ("failed", failed),
        ("refused", refused),
    ]
}

#[test]
fn relay_to_client_fixtures_decode_and_encode() {
    let cases = [relay_to_client_beginnings(), relay_to_client_ends()].concat();
    check("relay-to-client", RELAY_FRAME_BYTES_MAX, &cases);
}

fn node_hello() -> NodeToRelay {
    NodeToRelay::Hello {
        key: Some("hgn-example".to_owned()),
        name: "rig-1".to_owned(),
        class: NodeClass::Rig,
        software: "rig 0.1.0".to_owned(),
        slots: 2,
        models: vec![ModelOffer {
            model: "smollm2-135m".to_owned(),
            runtime: "llama.cpp".to_owned(),
            context_tokens: 8192,
            capabilities: Capabilities {
                grammar: true,
                logprobs: true,
            },
        }],
    }
}

#[test]
fn node_to_relay_fixtures_decode_and_encode() {
    let alias = 7;
    let accepted = NodeToRelay::Accepted {
        alias,
        prompt_tokens: 36,
        context_tokens: 8192,
    };
    let progress = NodeToRelay::Progress {
        alias,
        prefilled_tokens: 512,
    };
    let completed = NodeToRelay::Completed {
        alias,
        offset: 23,
        finish_reason: FinishReason::Length,
        usage: usage(8),
    };
    let failed = NodeToRelay::Failed {
        alias,
        failure: Failure::new(ErrorCode::Draining, "The node stops; try another.")
            .with_retry_after_ms(1000),
    };
    let prompt_checked = NodeToRelay::PromptChecked {
        check: 3,
        failure: None,
    };
    let prompt_refused = NodeToRelay::PromptChecked {
        check: 3,
        failure: Some(
            Failure::new(
                ErrorCode::ContextLengthExceeded,
                "The prompt has 9000 tokens, but this model's context is 8192 tokens.",
            )
            .with_param("messages"),
        ),
    };
    let cancelled = NodeToRelay::Cancelled {
        alias,
        usage: usage(3),
    };
    check(
        "node-to-relay",
        NODE_FRAME_BYTES_MAX,
        &[
            ("hello", node_hello()),
            ("accepted", accepted),
            ("progress", progress),
            ("completed", completed),
            ("failed", failed),
            ("cancelled", cancelled),
            ("prompt_checked", prompt_checked),
            ("prompt_checked.refused", prompt_refused),
            ("draining", NodeToRelay::Draining),
            ("ping", NodeToRelay::Ping),
        ],
    );
}

#[test]
fn relay_to_node_fixtures_decode_and_encode() {
    check(
        "relay-to-node",
        RELAY_FRAME_BYTES_MAX,
        &[
            (
                "welcome",
                RelayToNode::Welcome {
                    node: "n1".to_owned(),
                    heartbeat_ms: 15_000,
                },
            ),
            (
                "assign",
                RelayToNode::Assign {
                    job: job(),
                    attempt: 1,
                    alias: 7,
                    model: "smollm2-135m".to_owned(),
                    lease_ms: 30_000,
                    request: smallest_request(),
                },
            ),
            (
                "check_prompt",
                RelayToNode::CheckPrompt {
                    check: 3,
                    model: "smollm2-135m".to_owned(),
                    request: smallest_request(),
                },
            ),
            ("cancel", RelayToNode::Cancel { alias: 7 }),
            (
                "acknowledge",
                RelayToNode::Acknowledge {
                    alias: 7,
                    offset: 4096,
                },
            ),
            (
                "refused",
                RelayToNode::Refused {
                    failure: not_of_this_direction(),
                },
            ),
            ("pong", RelayToNode::Pong),
        ],
    );
}

#[test]
fn what_may_be_left_out_has_its_default() {
    let text = fixture("lenient.submit.json");
    let decoded: ClientToRelay = decode(&text, CLIENT_FRAME_BYTES_MAX).unwrap();
    let expected = ClientToRelay::Submit {
        job: job(),
        model: "light".to_owned(),
        request: smallest_request(),
    };
    assert_eq!(decoded, expected);

    let text = fixture("lenient.hello.json");
    let decoded: NodeToRelay = decode(&text, NODE_FRAME_BYTES_MAX).unwrap();
    let NodeToRelay::Hello { key, models, .. } = decoded else {
        panic!("not a hello");
    };
    assert_eq!(key, None);
    assert_eq!(models[0].capabilities, Capabilities::default());
}

#[test]
fn a_heartbeat_has_exactly_one_spelling() {
    assert_eq!(encode(&ClientToRelay::Ping), PING);
    assert_eq!(encode(&NodeToRelay::Ping), PING);
    assert_eq!(encode(&RelayToClient::Pong), PONG);
    assert_eq!(encode(&RelayToNode::Pong), PONG);
}

const SPECIFICATION: &str = include_str!("../../../../PROTOCOL.md");

#[test]
fn the_specification_names_every_error_and_close_code() {
    for code in ERROR_CODES {
        let word = encode(&code).replace('"', "`");
        let row = format!("\n| {word} | ");
        assert!(SPECIFICATION.contains(&row), "{word} has no row");
    }
    for code in [
        CloseCode::GoingAway,
        CloseCode::ProtocolError,
        CloseCode::Unauthorized,
        CloseCode::HelloTimeout,
        CloseCode::FrameTooLarge,
        CloseCode::HeartbeatLost,
    ] {
        let row = format!("\n| {} | ", code.number());
        assert!(SPECIFICATION.contains(&row), "{code:?} has no row");
    }
}

#[test]
fn the_specification_shows_every_fixture() {
    for ending in [".json", ".hex"] {
        for name in names("", ending) {
            let text = fixture(&format!("{name}{ending}"));
            assert!(
                SPECIFICATION.contains(&text),
                "{name}{ending} is not in PROTOCOL.md"
            );
        }
    }
}
