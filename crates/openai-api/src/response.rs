//! Whole answers, and the parts that streams share with them.

use protocol::chat::{BadToolCall, ToolCallEvent, ToolCallReader};
use protocol::{FinishReason, JobId, ToolCall, Usage};
use serde::{Deserialize, Serialize, Serializer};

/// What `OpenAI` writes for a probability of zero, since JSON has no infinity.
const LOGPROB_MIN: f32 = -9999.0;

/// What every object of one answer repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletionHead {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
}

impl CompletionHead {
    /// The answer to `job`, made at `created_seconds` of the Unix clock by `model`.
    pub fn new(job: JobId, created_seconds: u64, model: impl Into<String>) -> Self {
        Self {
            id: format!("chatcmpl-{job}"),
            created: created_seconds,
            model: model.into(),
        }
    }
}

/// One token of an answer with its log-probability.
///
/// A node's entry of the kind `logprobs` is a JSON array of `{id, token, logprob, bytes, top}`; `OpenAI`'s form calls
/// `top` by a longer name and has no `id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// Its text; where a token ends inside a character, with U+FFFD for the rest.
    pub token: String,
    /// The natural logarithm of its probability.
    #[serde(serialize_with = "finite")]
    pub logprob: f32,
    /// Its exact bytes.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens in its place.
    #[serde(default, rename(deserialize = "top"))]
    pub top_logprobs: Vec<Alternative>,
}

/// A token that could have stood there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// Its text.
    pub token: String,
    /// The natural logarithm of its probability.
    #[serde(serialize_with = "finite")]
    pub logprob: f32,
    /// Its exact bytes.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
}

/// Reads an entry of the kind `logprobs`; `None` if a node wrote something else.
pub fn decode_logprobs(bytes: &[u8]) -> Option<Vec<TokenLogprob>> {
    serde_json::from_slice(bytes).ok()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn finite<S: Serializer>(logprob: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    // max() takes the number where the other is no number.
    serializer.serialize_f32(logprob.max(LOGPROB_MIN))
}

/// The `logprobs` of a choice.
#[derive(Serialize)]
pub(crate) struct LogprobsBody<'a> {
    pub(crate) content: &'a [TokenLogprob],
    pub(crate) refusal: Option<()>,
}

impl<'a> LogprobsBody<'a> {
    pub(crate) fn new(content: &'a [TokenLogprob]) -> Self {
        Self {
            content,
            refusal: None,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct UsageBody {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    prompt_tokens_details: PromptTokensDetails,
}

/// Where a prompt's tokens came from.
#[derive(Serialize)]
pub(crate) struct PromptTokensDetails {
    cached_tokens: u32,
}

impl From<Usage> for UsageBody {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
            prompt_tokens_details: PromptTokensDetails {
                cached_tokens: usage.cached_tokens,
            },
        }
    }
}

/// Gathers an answer that is not streamed.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct WholeAnswer {
    /// The text so far.
    pub text: String,
    /// The reasoning so far; left out where the model shows none.
    pub reasoning: String,
    /// `Some` when the request asked for log-probabilities.
    pub logprobs: Option<Vec<TokenLogprob>>,
    pub(crate) tool_calls: Vec<ToolCall>,
    pub(crate) reader: ToolCallReader,
}

impl WholeAnswer {
    /// Takes the next bytes of tool calls.
    pub fn push_tool_calls(&mut self, text: &str) -> Result<(), BadToolCall> {
        for event in self.reader.push(text)? {
            match event {
                ToolCallEvent::Begun { id, name } => self.tool_calls.push(ToolCall {
                    id,
                    name,
                    arguments: String::new(),
                }),
                ToolCallEvent::Arguments(more) => {
                    if let Some(call) = self.tool_calls.last_mut() {
                        call.arguments.push_str(&more);
                    }
                }
            }
        }
        Ok(())
    }

    /// The finished `chat.completion`.
    pub fn body(&self, head: &CompletionHead, finish_reason: FinishReason, usage: Usage) -> String {
        json(&Completion {
            id: &head.id,
            object: "chat.completion",
            created: head.created,
            model: &head.model,
            choices: [Choice {
                index: 0,
                message: Message {
                    role: "assistant",
                    content: (!self.text.is_empty() || self.tool_calls.is_empty())
                        .then_some(&self.text),
                    reasoning_content: (!self.reasoning.is_empty()).then_some(&self.reasoning),
                    tool_calls: self.tool_calls.iter().map(CallBody::of).collect(),
                    refusal: None,
                },
                logprobs: self.logprobs.as_deref().map(LogprobsBody::new),
                finish_reason,
            }],
            usage: usage.into(),
        })
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    usage: UsageBody,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<LogprobsBody<'a>>,
    finish_reason: FinishReason,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallBody<'a>>,
    refusal: Option<()>,
}

/// A tool call, or the part of one that a chunk tells.
#[derive(Serialize)]
pub(crate) struct CallBody<'a> {
    /// In streams only: which call the part belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<&'static str>,
    pub(crate) function: FunctionBody<'a>,
}

#[derive(Serialize)]
pub(crate) struct FunctionBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<&'a str>,
    pub(crate) arguments: &'a str,
}

impl<'a> CallBody<'a> {
    fn of(call: &'a ToolCall) -> Self {
        Self {
            index: None,
            id: Some(&call.id),
            kind: Some("function"),
            function: FunctionBody {
                name: Some(&call.name),
                arguments: &call.arguments,
            },
        }
    }
}

/// Our bodies have string keys only, so that serialising cannot fail.
pub(crate) fn json<T: Serialize>(body: &T) -> String {
    serde_json::to_string(body).unwrap_or_default()
}
