//! Arbitrary messages for the property tests: every variant of every enum, with every field.

mod messages;

use proptest::collection::vec;
use proptest::num::f32::{NORMAL, ZERO};
use proptest::option;
use proptest::prelude::*;

use crate::chat::{LogitBias, ResponseFormat, Sampling};
use crate::{
    Answer, AnswerHash, ChatMessage, ChatRequest, DeltaKind, EmbedRequest, ErrorCode, Failure,
    FinishReason, Image, JobId, JobRequest, NodeClass, Piece, PieceKind, ReasoningEffort, Role,
    Speed, Tool, ToolCall, ToolChoice, Usage,
};

pub(super) use messages::{client_to_relay, node_to_relay, relay_to_client, relay_to_node};

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
        Role::Tool,
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
        FinishReason::ToolCalls,
        FinishReason::Unknown,
    ])
}

fn usage() -> impl Strategy<Value = Usage> {
    any::<(u32, u32, u32)>().prop_map(|(prompt_tokens, completion_tokens, cached_tokens)| Usage {
        prompt_tokens,
        completion_tokens,
        cached_tokens,
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

pub(super) const ERROR_CODES: [ErrorCode; 20] = [
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
    ErrorCode::SlowReader,
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

fn message() -> impl Strategy<Value = ChatMessage> {
    let image = (any::<u32>(), text()).prop_map(|(at, data)| Image { at, data });
    let call = (text(), text(), text()).prop_map(|(id, name, arguments)| ToolCall {
        id,
        name,
        arguments,
    });
    (
        (role(), text(), option::of(text())),
        vec(image, 0..3),
        vec(call, 0..3),
        (option::of(text()), option::of(text())),
    )
        .prop_map(
            |((role, content, name), images, tool_calls, (tool_call_id, reasoning))| ChatMessage {
                role,
                content,
                name,
                images,
                tool_calls,
                tool_call_id,
                reasoning,
            },
        )
}

fn tool() -> impl Strategy<Value = Tool> {
    (text(), option::of(text()), option::of(object())).prop_map(
        |(name, description, parameters)| Tool {
            name,
            description,
            parameters,
        },
    )
}

/// A tool's schema; `null` would read as none.
fn object() -> impl Strategy<Value = serde_json::Value> {
    json().prop_map(|value| serde_json::json!({ "properties": value }))
}

fn tool_choice() -> impl Strategy<Value = ToolChoice> {
    prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::None),
        Just(ToolChoice::Required),
        text().prop_map(|name| ToolChoice::Function { name }),
        Just(ToolChoice::Unknown),
    ]
}

fn reasoning() -> impl Strategy<Value = ReasoningEffort> {
    prop::sample::select(vec![
        ReasoningEffort::None,
        ReasoningEffort::Low,
        ReasoningEffort::Medium,
        ReasoningEffort::High,
        ReasoningEffort::Unknown,
    ])
}

pub(super) fn request() -> impl Strategy<Value = JobRequest> {
    let embed = (vec(text(), 0..3), any::<Option<u32>>())
        .prop_map(|(inputs, dimensions)| EmbedRequest { inputs, dimensions });
    prop_oneof![
        4 => chat_request().prop_map(JobRequest::Chat),
        1 => embed.prop_map(JobRequest::Embed),
        1 => Just(JobRequest::Unknown),
    ]
}

pub(super) fn chat_request() -> impl Strategy<Value = ChatRequest> {
    (
        vec(message(), 0..4),
        sampling(),
        vec(text(), 0..3),
        any::<(Option<u32>, Option<u8>)>(),
        response_format(),
        vec(tool(), 0..3),
        (
            tool_choice(),
            any::<Option<bool>>(),
            option::of(reasoning()),
        ),
    )
        .prop_map(
            |(
                messages,
                sampling,
                stop,
                (max_tokens, top_logprobs),
                response_format,
                tools,
                how,
            )| {
                ChatRequest {
                    messages,
                    sampling,
                    stop,
                    max_tokens,
                    response_format,
                    top_logprobs,
                    tools,
                    tool_choice: how.0,
                    parallel_tool_calls: how.1,
                    reasoning: how.2,
                }
            },
        )
}

fn piece_kind() -> impl Strategy<Value = PieceKind> {
    prop::sample::select(vec![
        PieceKind::Text,
        PieceKind::Reasoning,
        PieceKind::ToolCall,
        PieceKind::Logprobs,
        PieceKind::Unknown,
    ])
}

/// Any answer at all, one that cannot be carried too.
pub(super) fn answer() -> impl Strategy<Value = Answer> {
    let piece = (piece_kind(), text(), vec(any::<u32>(), 0..4))
        .prop_map(|(kind, text, tokens)| Piece { kind, text, tokens });
    (option::of(text()), vec(piece, 0..4)).prop_map(|(model, pieces)| Answer { model, pieces })
}

fn hash() -> impl Strategy<Value = AnswerHash> {
    any::<[u8; 8]>().prop_map(|bytes| AnswerHash::of(&bytes))
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
