//! Golden control frames between a client and the relay.

use super::{
    BEGUN, CLIENT_TICKET, begun_hash, check, empty_hash, fullest_request, job,
    not_of_this_direction, piece, request_with_tools, smallest_request, usage,
};
use crate::limits::{CLIENT_FRAME_BYTES_MAX, RELAY_FRAME_BYTES_MAX};
use crate::{
    Answer, ClientToRelay, EmbedRequest, ErrorCode, Failure, FinishReason, NodeClass, PieceKind,
    RelayToClient, Speed, WaitRange,
};

/// Who the client is, and what it asks.
fn client_to_relay_questions() -> Vec<(&'static str, ClientToRelay)> {
    let hello = ClientToRelay::Hello {
        key: Some("hg-example".to_owned()),
    };
    let submit = ClientToRelay::Submit {
        job: job(),
        model: "light".to_owned(),
        request: smallest_request().into(),
    };
    let full = ClientToRelay::Submit {
        job: job(),
        model: "smollm2-135m".to_owned(),
        request: fullest_request().into(),
    };
    let tools = ClientToRelay::Submit {
        job: job(),
        model: "heavy".to_owned(),
        request: request_with_tools().into(),
    };
    let embed = ClientToRelay::Submit {
        job: job(),
        model: "smollm2-135m".to_owned(),
        request: EmbedRequest {
            inputs: vec!["first".to_owned(), "second".to_owned()],
            dimensions: Some(256),
        }
        .into(),
    };
    vec![
        ("submit.tools", tools),
        ("submit.embed", embed),
        ("hello", hello),
        ("hello.open", ClientToRelay::Hello { key: None }),
        ("submit", submit),
        ("submit.full", full),
        ("ping", ClientToRelay::Ping),
    ]
}

/// What it says about a job that it asked for.
fn client_to_relay_followups() -> Vec<(&'static str, ClientToRelay)> {
    let resume = ClientToRelay::Resume {
        job: job(),
        ticket: CLIENT_TICKET.to_owned(),
        attempt: 0,
        offset: 0,
        tokens: 0,
        hash: empty_hash(),
        model: "light".to_owned(),
        request: smallest_request().into(),
        answer: None,
    };
    let resume_with_answer = ClientToRelay::Resume {
        job: job(),
        ticket: CLIENT_TICKET.to_owned(),
        attempt: 1,
        offset: 9,
        tokens: 3,
        hash: begun_hash(),
        model: "light".to_owned(),
        request: smallest_request().into(),
        answer: Some(Answer {
            model: Some("smollm2-135m".to_owned()),
            pieces: vec![piece(PieceKind::Text, BEGUN, &[4_822, 28, 4_561])],
        }),
    };
    let acknowledge = ClientToRelay::Acknowledge {
        job: job(),
        offset: 4096,
        whole: false,
    };
    let acknowledge_whole = ClientToRelay::Acknowledge {
        job: job(),
        offset: 23,
        whole: true,
    };
    vec![
        ("resume", resume),
        ("resume.full", resume_with_answer),
        ("acknowledge", acknowledge),
        ("acknowledge.whole", acknowledge_whole),
        ("cancel", ClientToRelay::Cancel { job: job() }),
    ]
}

#[test]
fn client_to_relay_fixtures_decode_and_encode() {
    let cases = [client_to_relay_questions(), client_to_relay_followups()].concat();
    check("client-to-relay", CLIENT_FRAME_BYTES_MAX, &cases);
}

fn queued(wait: Option<WaitRange>) -> RelayToClient {
    RelayToClient::Queued {
        job: job(),
        model: "smollm2-135m".to_owned(),
        position: 3,
        nodes: 1,
        wait,
    }
}

fn assigned(attempt: u32, alias: u32, node: &str, offset: u32) -> RelayToClient {
    RelayToClient::Assigned {
        job: job(),
        attempt,
        alias,
        model: "smollm2-135m".to_owned(),
        node: node.to_owned(),
        class: NodeClass::Rig,
        offset,
    }
}

/// From the connection to the node's first word.
fn relay_to_client_beginnings() -> Vec<(&'static str, RelayToClient)> {
    let account = "local".to_owned();
    let submitted = RelayToClient::Submitted {
        job: job(),
        ticket: CLIENT_TICKET.to_owned(),
    };
    let wait = WaitRange {
        ms_min: 4_000,
        ms_max: 11_000,
    };
    let started = RelayToClient::Started {
        job: job(),
        prompt_tokens: 36,
        context_tokens: 8192,
    };
    vec![
        ("welcome", RelayToClient::Welcome { account }),
        ("submitted", submitted),
        ("queued", queued(None)),
        ("queued.wait", queued(Some(wait))),
        ("assigned", assigned(1, 7, "rig-1", 0)),
        ("assigned.again", assigned(2, 12, "rig-2", 9)),
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
