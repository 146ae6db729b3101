//! Golden control frames: what version 1 looks like on the wire, byte for byte.
//!
//! The fixtures were written by hand from the specification, not by the code that they check.

mod client;
mod node;

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
    AnswerHash, Capabilities, ChatMessage, ChatRequest, ClientToRelay, CloseCode, ErrorCode,
    Failure, Image, JobId, NodeToRelay, PING, PONG, Piece, PieceKind, ReasoningEffort,
    RelayToClient, RelayToNode, Role, Tool, ToolCall, ToolChoice, Usage, decode, encode,
};

/// A client's ticket and a node's: peers need not read them.
const CLIENT_TICKET: &str = "cl.eyJqIjoiMGYxZSJ9.c2lnbmVk";
const NODE_TICKET: &str = "no.eyJqIjoiMGYxZSJ9.c2lnbmVk";

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
        cached_tokens: 0,
    }
}

fn not_of_this_direction() -> Failure {
    Failure::new(ErrorCode::ProtocolError, "Not a message of this direction.")
}

fn message(role: Role, content: &str) -> ChatMessage {
    ChatMessage {
        role,
        content: content.to_owned(),
        ..ChatMessage::default()
    }
}

fn smallest_request() -> ChatRequest {
    ChatRequest {
        messages: vec![message(Role::User, "Name three primary colours.")],
        ..ChatRequest::default()
    }
}

/// A picture asked about, a tool called and answered, and the beginning of an answer given.
fn request_with_tools() -> ChatRequest {
    let call = ToolCall {
        id: "a1B2c3D4e".to_owned(),
        name: "weather".to_owned(),
        arguments: r#"{"town":"Oslo"}"#.to_owned(),
    };
    ChatRequest {
        messages: vec![
            ChatMessage {
                images: vec![Image {
                    at: 0,
                    data: "iVBORw0KGgo=".to_owned(),
                }],
                ..message(Role::User, "Is it raining there?")
            },
            ChatMessage {
                tool_calls: vec![call],
                reasoning: Some("That is Oslo.".to_owned()),
                ..message(Role::Assistant, "")
            },
            ChatMessage {
                tool_call_id: Some("a1B2c3D4e".to_owned()),
                ..message(Role::Tool, "rain")
            },
            message(Role::Assistant, "Yes,"),
        ],
        tools: vec![Tool {
            name: "weather".to_owned(),
            description: Some("The weather in a town.".to_owned()),
            parameters: Some(
                json!({"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}),
            ),
        }],
        tool_choice: ToolChoice::Function {
            name: "weather".to_owned(),
        },
        parallel_tool_calls: Some(false),
        reasoning: Some(ReasoningEffort::Low),
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
        ..ChatRequest::default()
    }
}

/// What the examples have of an answer when something breaks.
const BEGUN: &str = "Red, blue";

/// Its hash, by `printf 'Red, blue' | sha256sum`.
fn begun_hash() -> AnswerHash {
    from_json(r#""f46a283802535090d66756b00ed0c853823fce1214d1a030e3b7abd50c8cc4aa""#)
}

/// The hash of no bytes, by `printf '' | sha256sum`.
fn empty_hash() -> AnswerHash {
    from_json(r#""e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855""#)
}

fn from_json<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap()
}

fn piece(kind: PieceKind, text: &str, tokens: &[u32]) -> Piece {
    Piece {
        kind,
        text: text.to_owned(),
        tokens: tokens.to_vec(),
    }
}

#[test]
fn what_may_be_left_out_has_its_default() {
    let text = fixture("lenient.submit.json");
    let decoded: ClientToRelay = decode(&text, CLIENT_FRAME_BYTES_MAX).unwrap();
    let expected = ClientToRelay::Submit {
        job: job(),
        model: "light".to_owned(),
        request: smallest_request().into(),
    };
    assert_eq!(decoded, expected);

    let text = fixture("lenient.hello.json");
    let decoded: NodeToRelay = decode(&text, NODE_FRAME_BYTES_MAX).unwrap();
    let NodeToRelay::Hello {
        key,
        models,
        announces,
        ..
    } = decoded
    else {
        panic!("not a hello");
    };
    assert_eq!(key, None);
    assert_eq!(announces, 0);
    assert_eq!(models[0].capabilities, Capabilities::default());

    let text = fixture("lenient.assigned.json");
    let decoded: RelayToClient = decode(&text, RELAY_FRAME_BYTES_MAX).unwrap();
    let RelayToClient::Assigned { offset, .. } = decoded else {
        panic!("not an assignment");
    };
    assert_eq!(offset, 0);
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
