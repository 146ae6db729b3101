//! Golden control frames between a node and the relay.

use super::{
    NODE_TICKET, begun_hash, check, empty_hash, job, not_of_this_direction, piece,
    smallest_request, usage,
};
use crate::limits::{NODE_FRAME_BYTES_MAX, RELAY_FRAME_BYTES_MAX};
use crate::{
    Answer, Capabilities, ErrorCode, Failure, FinishReason, Machine, MeasuredSpeed, ModelOffer,
    NodeClass, NodeToRelay, PieceKind, PrefixHash, RelayToNode,
};

fn hello(key: Option<&str>, capabilities: Capabilities, announces: u32) -> NodeToRelay {
    NodeToRelay::Hello {
        key: key.map(str::to_owned),
        name: "rig-1".to_owned(),
        class: NodeClass::Rig,
        software: "rig 0.1.0".to_owned(),
        slots: 2,
        models: vec![ModelOffer {
            model: "smollm2-135m".to_owned(),
            runtime: "llama.cpp".to_owned(),
            context_tokens: 8192,
            capabilities,
            measured: None,
        }],
        announces,
        machine: None,
    }
}

/// With what its self-test found.
fn with_machine(mut hello: NodeToRelay) -> NodeToRelay {
    if let NodeToRelay::Hello {
        machine, models, ..
    } = &mut hello
    {
        *machine = Some(Machine {
            device: "NVIDIA GeForce RTX 4090".to_owned(),
            memory_bytes: 25_757_220_864,
            runtime: "llama.cpp b6000, driver 570.86".to_owned(),
        });
        models[0].measured = Some(MeasuredSpeed {
            prefill_tokens_per_second: 11_250,
            decode_tokens_per_second: 182,
        });
    }
    hello
}

/// What a node says of itself, and of what an earlier connection left.
fn node_to_relay_beginnings() -> Vec<(&'static str, NodeToRelay)> {
    let everything = Capabilities {
        grammar: true,
        logprobs: true,
        penalties: true,
        logit_bias: true,
        seed: true,
        continuation: true,
        vision: true,
        tools: true,
        chat: true,
        embeddings: true,
    };
    let measured = with_machine(hello(None, Capabilities::default(), 0));
    let cached = NodeToRelay::Cached {
        prefixes: vec![PrefixHash(0x0123_4567_89ab_cdef), PrefixHash(7)],
    };
    let running = NodeToRelay::Announce {
        job: job(),
        attempt: 1,
        ticket: NODE_TICKET.to_owned(),
        from: 0,
        hash: empty_hash(),
        offset: 23,
        ended: false,
    };
    let ended = NodeToRelay::Announce {
        job: job(),
        attempt: 1,
        ticket: NODE_TICKET.to_owned(),
        from: 9,
        hash: begun_hash(),
        offset: 23,
        ended: true,
    };
    vec![
        ("hello", hello(Some("hgn-example"), everything, 0)),
        ("hello.back", hello(None, Capabilities::default(), 2)),
        ("hello.measured", measured),
        ("cached", cached),
        ("announce", running),
        ("announce.ended", ended),
        ("draining", NodeToRelay::Draining),
        ("ping", NodeToRelay::Ping),
    ]
}

/// What it says of an attempt, or of a prompt.
fn node_to_relay_answers() -> Vec<(&'static str, NodeToRelay)> {
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
    let cancelled = NodeToRelay::Cancelled {
        alias,
        usage: usage(3),
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
    vec![
        ("accepted", accepted),
        ("progress", progress),
        ("completed", completed),
        ("failed", failed),
        ("cancelled", cancelled),
        ("prompt_checked", prompt_checked),
        ("prompt_checked.refused", prompt_refused),
    ]
}

#[test]
fn node_to_relay_fixtures_decode_and_encode() {
    let cases = [node_to_relay_beginnings(), node_to_relay_answers()].concat();
    check("node-to-relay", NODE_FRAME_BYTES_MAX, &cases);
}

fn assign(attempt: u32, alias: u32, answer: Option<Answer>) -> RelayToNode {
    RelayToNode::Assign {
        job: job(),
        attempt,
        alias,
        model: "smollm2-135m".to_owned(),
        lease_ms: 30_000,
        window_bytes: 65_536,
        ticket: NODE_TICKET.to_owned(),
        request: smallest_request().into(),
        answer,
        prefix: (attempt == 2).then_some(PrefixHash(7)),
    }
}

/// What the relay wants done.
fn relay_to_node_work() -> Vec<(&'static str, RelayToNode)> {
    // Of every kind, with and without tokens; no model, as if two had taken part.
    let answer = Answer {
        model: None,
        pieces: vec![
            piece(PieceKind::Reasoning, "hm", &[9]),
            piece(PieceKind::Text, "Red,", &[]),
            piece(PieceKind::Logprobs, "[]", &[]),
            piece(PieceKind::ToolCall, "{}", &[11, 12]),
        ],
    };
    let adopt = RelayToNode::Adopt {
        job: job(),
        attempt: 1,
        alias: 12,
        lease_ms: 30_000,
        window_bytes: 65_536,
        offset: 9,
        tokens: 3,
        hash: begun_hash(),
    };
    let fence = RelayToNode::Fence {
        job: job(),
        attempt: 1,
        failure: Failure::new(ErrorCode::UnknownJob, "No such job."),
    };
    let check_prompt = RelayToNode::CheckPrompt {
        check: 3,
        model: "smollm2-135m".to_owned(),
        request: smallest_request().into(),
    };
    vec![
        ("assign", assign(1, 7, None)),
        ("assign.continued", assign(2, 12, Some(answer))),
        ("adopt", adopt),
        ("fence", fence),
        ("check_prompt", check_prompt),
        ("cancel", RelayToNode::Cancel { alias: 7 }),
    ]
}

/// The rest.
fn relay_to_node_words() -> Vec<(&'static str, RelayToNode)> {
    let welcome = RelayToNode::Welcome {
        node: "n1".to_owned(),
        heartbeat_ms: 15_000,
    };
    let acknowledge = |offset, whole| RelayToNode::Acknowledge {
        alias: 7,
        offset,
        whole,
    };
    let refused = RelayToNode::Refused {
        failure: not_of_this_direction(),
    };
    vec![
        ("welcome", welcome),
        ("merge", RelayToNode::Merge { ms: 20 }),
        ("acknowledge", acknowledge(4096, false)),
        ("acknowledge.whole", acknowledge(23, true)),
        ("refused", refused),
        ("pong", RelayToNode::Pong),
    ]
}

#[test]
fn relay_to_node_fixtures_decode_and_encode() {
    let cases = [relay_to_node_work(), relay_to_node_words()].concat();
    check("relay-to-node", RELAY_FRAME_BYTES_MAX, &cases);
}
