//! Arbitrary messages of each direction.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{answer, class, failure, finish_reason, hash, job, request, speed, text, usage};
use crate::{
    Capabilities, ClientToRelay, MeasuredSpeed, ModelOffer, NodeToRelay, RelayToClient,
    RelayToNode, WaitRange,
};

fn resume() -> impl Strategy<Value = ClientToRelay> {
    (
        (job(), text(), any::<(u32, u32, u32)>(), hash()),
        (text(), request(), option::of(answer())),
    )
        .prop_map(
            |((job, ticket, (attempt, offset, tokens), hash), (model, request, answer))| {
                ClientToRelay::Resume {
                    job,
                    ticket,
                    attempt,
                    offset,
                    tokens,
                    hash,
                    model,
                    request,
                    answer,
                }
            },
        )
}

pub(in crate::tests) fn client_to_relay() -> impl Strategy<Value = ClientToRelay> {
    prop_oneof![
        option::of(text()).prop_map(|key| ClientToRelay::Hello { key }),
        (job(), text(), request()).prop_map(|(job, model, request)| ClientToRelay::Submit {
            job,
            model,
            request,
        }),
        resume(),
        (job(), any::<(u32, bool)>()).prop_map(|(job, (offset, whole))| {
            ClientToRelay::Acknowledge { job, offset, whole }
        }),
        job().prop_map(|job| ClientToRelay::Cancel { job }),
        Just(ClientToRelay::Ping),
        Just(ClientToRelay::Unknown),
    ]
}

fn queued() -> impl Strategy<Value = RelayToClient> {
    let wait = any::<(u64, u64)>().prop_map(|(ms_min, ms_max)| WaitRange { ms_min, ms_max });
    (job(), text(), any::<(u32, u32)>(), option::of(wait)).prop_map(
        |(job, model, (position, nodes), wait)| RelayToClient::Queued {
            job,
            model,
            position,
            nodes,
            wait,
        },
    )
}

fn assigned() -> impl Strategy<Value = RelayToClient> {
    (job(), any::<(u32, u32, u32)>(), text(), text(), class()).prop_map(
        |(job, (attempt, alias, offset), model, node, class)| RelayToClient::Assigned {
            job,
            attempt,
            alias,
            model,
            node,
            class,
            offset,
        },
    )
}

pub(in crate::tests) fn relay_to_client() -> impl Strategy<Value = RelayToClient> {
    prop_oneof![
        text().prop_map(|account| RelayToClient::Welcome { account }),
        (job(), text()).prop_map(|(job, ticket)| RelayToClient::Submitted { job, ticket }),
        queued(),
        assigned(),
        (job(), any::<u32>(), any::<u32>()).prop_map(|(job, prompt_tokens, context_tokens)| {
            RelayToClient::Started {
                job,
                prompt_tokens,
                context_tokens,
            }
        }),
        (job(), any::<u32>(), finish_reason(), usage(), speed()).prop_map(
            |(job, offset, finish_reason, usage, speed)| RelayToClient::Completed {
                job,
                offset,
                finish_reason,
                usage,
                speed
            }
        ),
        (job(), failure()).prop_map(|(job, failure)| RelayToClient::Failed { job, failure }),
        failure().prop_map(|failure| RelayToClient::Refused { failure }),
        Just(RelayToClient::Pong),
        Just(RelayToClient::Unknown),
    ]
}

fn capabilities() -> impl Strategy<Value = Capabilities> {
    any::<[bool; 10]>().prop_map(|can| Capabilities {
        grammar: can[0],
        logprobs: can[1],
        penalties: can[2],
        logit_bias: can[3],
        seed: can[4],
        continuation: can[5],
        vision: can[6],
        tools: can[7],
        chat: can[8],
        embeddings: can[9],
    })
}

fn model_offer() -> impl Strategy<Value = ModelOffer> {
    (
        text(),
        text(),
        any::<u32>(),
        capabilities(),
        option::of(any::<(u32, u32)>()),
    )
        .prop_map(
            |(model, runtime, context_tokens, capabilities, measured)| ModelOffer {
                model,
                runtime,
                context_tokens,
                capabilities,
                measured: measured.map(|(prefill, decode)| MeasuredSpeed {
                    prefill_tokens_per_second: prefill,
                    decode_tokens_per_second: decode,
                }),
            },
        )
}

fn node_hello() -> impl Strategy<Value = NodeToRelay> {
    (
        option::of(text()),
        text(),
        class(),
        text(),
        any::<(u32, u32)>(),
        vec(model_offer(), 0..3),
    )
        .prop_map(|(key, name, class, software, (slots, announces), models)| {
            NodeToRelay::Hello {
                key,
                name,
                class,
                software,
                slots,
                models,
                announces,
                machine: None,
            }
        })
}

fn announce() -> impl Strategy<Value = NodeToRelay> {
    (
        (job(), text(), hash()),
        any::<(u32, u32, u32)>(),
        any::<bool>(),
    )
        .prop_map(|((job, ticket, hash), (attempt, from, offset), ended)| {
            NodeToRelay::Announce {
                job,
                attempt,
                ticket,
                from,
                hash,
                offset,
                ended,
            }
        })
}

pub(in crate::tests) fn node_to_relay() -> impl Strategy<Value = NodeToRelay> {
    prop_oneof![
        node_hello(),
        announce(),
        any::<(u32, u32, u32)>().prop_map(|(alias, prompt_tokens, context_tokens)| {
            NodeToRelay::Accepted {
                alias,
                prompt_tokens,
                context_tokens,
            }
        }),
        any::<(u32, u32)>().prop_map(|(alias, prefilled_tokens)| NodeToRelay::Progress {
            alias,
            prefilled_tokens
        }),
        (any::<(u32, u32)>(), finish_reason(), usage()).prop_map(
            |((alias, offset), finish_reason, usage)| NodeToRelay::Completed {
                alias,
                offset,
                finish_reason,
                usage
            }
        ),
        (any::<u32>(), failure())
            .prop_map(|(alias, failure)| NodeToRelay::Failed { alias, failure }),
        (any::<u32>(), option::of(failure()))
            .prop_map(|(check, failure)| NodeToRelay::PromptChecked { check, failure }),
        (any::<u32>(), usage()).prop_map(|(alias, usage)| NodeToRelay::Cancelled { alias, usage }),
        Just(NodeToRelay::Draining),
        Just(NodeToRelay::Ping),
        Just(NodeToRelay::Unknown),
    ]
}

fn assign() -> impl Strategy<Value = RelayToNode> {
    (
        (job(), text(), text()),
        any::<(u32, u32, u32)>(),
        any::<u64>(),
        request(),
        option::of(answer()),
    )
        .prop_map(
            |((job, model, ticket), (attempt, alias, window_bytes), lease_ms, request, answer)| {
                RelayToNode::Assign {
                    job,
                    attempt,
                    alias,
                    model,
                    lease_ms,
                    window_bytes,
                    ticket,
                    request,
                    answer,
                    prefix: None,
                }
            },
        )
}

fn adopt() -> impl Strategy<Value = RelayToNode> {
    (job(), any::<[u32; 5]>(), any::<u64>(), hash()).prop_map(|(job, numbers, lease_ms, hash)| {
        let [attempt, alias, window_bytes, offset, tokens] = numbers;
        RelayToNode::Adopt {
            job,
            attempt,
            alias,
            lease_ms,
            window_bytes,
            offset,
            tokens,
            hash,
        }
    })
}

pub(in crate::tests) fn relay_to_node() -> impl Strategy<Value = RelayToNode> {
    prop_oneof![
        (text(), any::<u64>())
            .prop_map(|(node, heartbeat_ms)| RelayToNode::Welcome { node, heartbeat_ms }),
        assign(),
        adopt(),
        (job(), any::<u32>(), failure()).prop_map(|(job, attempt, failure)| RelayToNode::Fence {
            job,
            attempt,
            failure
        }),
        any::<u64>().prop_map(|ms| RelayToNode::Merge { ms }),
        (any::<u32>(), text(), request()).prop_map(|(check, model, request)| {
            RelayToNode::CheckPrompt {
                check,
                model,
                request,
            }
        }),
        any::<u32>().prop_map(|alias| RelayToNode::Cancel { alias }),
        any::<(u32, u32, bool)>().prop_map(|(alias, offset, whole)| RelayToNode::Acknowledge {
            alias,
            offset,
            whole
        }),
        failure().prop_map(|failure| RelayToNode::Refused { failure }),
        Just(RelayToNode::Pong),
        Just(RelayToNode::Unknown),
    ]
}
