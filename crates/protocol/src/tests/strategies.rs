//! Arbitrary messages for the property tests: every variant of every enum, with every field.

use proptest::collection::vec;
use proptest::num::f32::{NORMAL, ZERO};
use proptest::option;
use proptest::prelude::*;

use crate::chat::{LogitBias, ResponseFormat, Sampling};
use crate::{
    Capabilities, ChatMessage, ChatRequest, ClientToRelay, DeltaKind, ErrorCode, Failure,
    FinishReason, JobId, ModelOffer, NodeClass, NodeToRelay, RelayToClient, RelayToNode, Role,
    Speed, Usage,
};

/// One entry of a token frame, owned.
#[derive(Debug, Clone)]
pub(super) struct OwnedEntry {
    pub(super) alias: u32,
    pub(super) offset: u32,
    pub(super) kind: DeltaKind,
    pub(super) tokens: Vec<u32>,
    pub(super) bytes: Vec<u8>,
}

fn text() -> impl Strategy<Value = String> {
    // All of Unicode, quotes and control characters included.
    any::<String>()
}

fn number() -> impl Strategy<Value = f32> {
    // JSON has no infinity and no NaN.
    NORMAL | ZERO
}

fn job() -> impl Strategy<Value = JobId> {
    any::<[u8; 16]>().prop_map(JobId::from_random)
}

fn role() -> impl Strategy<Value = Role> {
    prop::sample::select(vec![
        Role::System,
        Role::User,
        Role::Assistant,
        Role::Unknown,
    ])
}

fn class() -> impl Strategy<Value = NodeClass> {
    prop::sample::select(vec![
        NodeClass::Rig,
        NodeClass::Render,
        NodeClass::Browser,
        NodeClass::Unknown,
    ])
}

fn finish_reason() -> impl Strategy<Value = FinishReason> {
    prop::sample::select(vec![
        FinishReason::Stop,
        FinishReason::Length,
        FinishReason::Unknown,
    ])
}

fn usage() -> impl Strategy<Value = Usage> {
    any::<(u32, u32)>().prop_map(|(prompt_tokens, completion_tokens)| Usage {
        prompt_tokens,
        completion_tokens,
    })
}

fn speed() -> impl Strategy<Value = Speed> {
    // Eighths, because serde_json may read the last bit of a longer number differently; a speed needs no such care.
    any::<(u64, u64, u32)>().prop_map(|(queued_ms, first_token_ms, eighths)| Speed {
        queued_ms,
        first_token_ms,
        decode_tokens_per_second: f64::from(eighths) / 8.0,
    })
}

pub(super) const ERROR_CODES: [ErrorCode; 19] = [
    ErrorCode::InvalidRequest,
    ErrorCode::UnknownModel,
    ErrorCode::ContextLengthExceeded,
    ErrorCode::CapabilityMissing,
    ErrorCode::QueueFull,
    ErrorCode::MemoryFull,
    ErrorCode::TooLarge,
    ErrorCode::Unauthorized,
    ErrorCode::UnknownJob,
    ErrorCode::DuplicateJob,
    ErrorCode::ProtocolError,
    ErrorCode::NodeLost,
    ErrorCode::LeaseExpired,
    ErrorCode::EngineFailed,
    ErrorCode::Draining,
    ErrorCode::Cancelled,
    ErrorCode::ClientGone,
    ErrorCode::Internal,
    ErrorCode::Unknown,
];

fn code() -> impl Strategy<Value = ErrorCode> {
    prop::sample::select(ERROR_CODES.to_vec())
}

pub(super) fn failure() -> impl Strategy<Value = Failure> {
    (code(), text(), option::of(text()), any::<Option<u64>>()).prop_map(
        |(code, message, param, retry_after_ms)| Failure {
            code,
            message,
            param,
            retry_after_ms,
        },
    )
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        text().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(text(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn response_format() -> impl Strategy<Value = ResponseFormat> {
    prop_oneof![
        Just(ResponseFormat::Text),
        Just(ResponseFormat::JsonObject),
        json().prop_map(|schema| ResponseFormat::JsonSchema { schema }),
        Just(ResponseFormat::Unknown),
    ]
}

fn sampling() -> impl Strategy<Value = Sampling> {
    let bias = (any::<u32>(), number()).prop_map(|(token, bias)| LogitBias { token, bias });
    (
        option::of(number()),
        option::of(number()),
        any::<Option<u32>>(),
        option::of(number()),
        any::<Option<u64>>(),
        option::of(number()),
        option::of(number()),
        vec(bias, 0..4),
    )
        .prop_map(
            |(temperature, top_p, top_k, min_p, seed, presence, frequency, logit_bias)| Sampling {
                temperature,
                top_p,
                top_k,
                min_p,
                seed,
                presence_penalty: presence,
                frequency_penalty: frequency,
                logit_bias,
            },
        )
}

pub(super) fn chat_request() -> impl Strategy<Value = ChatRequest> {
    let message =
        (role(), text(), option::of(text())).prop_map(|(role, content, name)| ChatMessage {
            role,
            content,
            name,
        });
    (
        vec(message, 0..4),
        sampling(),
        vec(text(), 0..3),
        any::<Option<u32>>(),
        response_format(),
        any::<Option<u8>>(),
    )
        .prop_map(
            |(messages, sampling, stop, max_tokens, response_format, top_logprobs)| ChatRequest {
                messages,
                sampling,
                stop,
                max_tokens,
                response_format,
                top_logprobs,
            },
        )
}

pub(super) fn client_to_relay() -> impl Strategy<Value = ClientToRelay> {
    prop_oneof![
        option::of(text()).prop_map(|key| ClientToRelay::Hello { key }),
        (job(), text(), chat_request()).prop_map(|(job, model, request)| ClientToRelay::Submit {
            job,
            model,
            request
        }),
        (job(), any::<u32>()).prop_map(|(job, offset)| ClientToRelay::Acknowledge { job, offset }),
        job().prop_map(|job| ClientToRelay::Cancel { job }),
        Just(ClientToRelay::Ping),
        Just(ClientToRelay::Unknown),
    ]
}

pub(super) fn relay_to_client() -> impl Strategy<Value = RelayToClient> {
    prop_oneof![
        text().prop_map(|account| RelayToClient::Welcome { account }),
        (job(), text(), any::<u32>(), any::<u32>()).prop_map(|(job, model, position, nodes)| {
            RelayToClient::Queued {
                job,
                model,
                position,
                nodes,
            }
        }),
        (job(), any::<u32>(), any::<u32>(), text(), text(), class()).prop_map(
            |(job, attempt, alias, model, node, class)| RelayToClient::Assigned {
                job,
                attempt,
                alias,
                model,
                node,
                class
            }
        ),
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

fn model_offer() -> impl Strategy<Value = ModelOffer> {
    (text(), text(), any::<u32>(), any::<(bool, bool)>()).prop_map(
        |(model, runtime, context_tokens, (grammar, logprobs))| ModelOffer {
            model,
            runtime,
            context_tokens,
            capabilities: Capabilities { grammar, logprobs },
        },
    )
}

pub(super) fn node_to_relay() -> impl Strategy<Value = NodeToRelay> {
    prop_oneof![
        (
            option::of(text()),
            text(),
            class(),
            text(),
            any::<u32>(),
            vec(model_offer(), 0..3)
        )
            .prop_map(
                |(key, name, class, software, slots, models)| NodeToRelay::Hello {
                    key,
                    name,
                    class,
                    software,
                    slots,
                    models
                }
            ),
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

pub(super) fn relay_to_node() -> impl Strategy<Value = RelayToNode> {
    prop_oneof![
        (text(), any::<u64>())
            .prop_map(|(node, heartbeat_ms)| RelayToNode::Welcome { node, heartbeat_ms }),
        (
            job(),
            any::<(u32, u32)>(),
            text(),
            any::<u64>(),
            chat_request()
        )
            .prop_map(|(job, (attempt, alias), model, lease_ms, request)| {
                RelayToNode::Assign {
                    job,
                    attempt,
                    alias,
                    model,
                    lease_ms,
                    request,
                }
            }),
        (any::<u32>(), text(), chat_request()).prop_map(|(check, model, request)| {
            RelayToNode::CheckPrompt {
                check,
                model,
                request,
            }
        }),
        any::<u32>().prop_map(|alias| RelayToNode::Cancel { alias }),
        any::<(u32, u32)>().prop_map(|(alias, offset)| RelayToNode::Acknowledge { alias, offset }),
        failure().prop_map(|failure| RelayToNode::Refused { failure }),
        Just(RelayToNode::Pong),
        Just(RelayToNode::Unknown),
    ]
}

fn kind_of(number: u8) -> DeltaKind {
    [
        DeltaKind::Text,
        DeltaKind::Reasoning,
        DeltaKind::ToolCall,
        DeltaKind::Logprobs,
    ]
    .into_iter()
    .find(|kind| kind.number() == number)
    .unwrap_or(DeltaKind::Unknown(number))
}

pub(super) fn entry() -> impl Strategy<Value = OwnedEntry> {
    (
        any::<u32>(),
        any::<u32>(),
        any::<u8>(),
        vec(any::<u32>(), 0..5),
        vec(any::<u8>(), 0..40),
    )
        .prop_map(|(alias, offset, kind, tokens, bytes)| OwnedEntry {
            alias,
            offset,
            kind: kind_of(kind),
            tokens,
            bytes,
        })
}
