//! Streamed answers as server-sent events: one `data:` line and an empty line each.
//!
//! ```text
//! comment* → role → (text | reasoning | tool call)* → finish → usage? → [DONE]
//!                          └─▶ error, and nothing after it
//! ```

use protocol::chat::{BadToolCall, ToolCallEvent, ToolCallReader};
use protocol::{FinishReason, Usage};
use serde::Serialize;

use crate::ApiError;
use crate::response::{
    CallBody, CompletionHead, FunctionBody, LogprobsBody, TokenLogprob, UsageBody, json,
};

/// The content type of a stream.
pub const SSE_CONTENT_TYPE: &str = "text/event-stream; charset=utf-8";

/// The last event of a stream that ended well.
pub const SSE_DONE: &str = "data: [DONE]\n\n";

/// A comment: keeps the connection and its proxies awake while there is nothing to say.
pub fn sse_comment(text: &str) -> String {
    format!(": {}\n\n", text.replace(['\r', '\n'], " "))
}

/// The event that ends a stream which broke. It has no event name: `OpenAI`'s libraries look for `error` in the
/// data, and raise. No `[DONE]` follows.
pub fn sse_error(error: &ApiError) -> String {
    format!("data: {}\n\n", error.body())
}

const CONTENT: &str = "\"content\":";
const EMPTY_CONTENT: &str = "\"content\":\"\"";

/// Writes the chunks of one streamed answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletionStream {
    head: CompletionHead,
    include_usage: bool,
    /// A chunk of text without log-probabilities, cut where the text belongs: most chunks are one, and differ only there.
    text_frame: (String, String),
    calls: ToolCallReader,
    call_count: u32,
}

impl CompletionStream {
    /// A stream of the answer with this head; with `include_usage`, all chunks have the field, as in `OpenAI`'s.
    pub fn new(head: CompletionHead, include_usage: bool) -> Self {
        let mut stream = Self {
            head,
            include_usage,
            text_frame: (String::new(), String::new()),
            calls: ToolCallReader::default(),
            call_count: 0,
        };
        let empty = Delta {
            content: Some(""),
            ..Delta::default()
        };
        let chunk = stream.chunk(empty, None, None);
        // Not in a value: there, quotes are escaped.
        if let Some((before, after)) = chunk.split_once(EMPTY_CONTENT) {
            stream.text_frame = (format!("{before}{CONTENT}"), after.to_owned());
        }
        stream
    }

    /// The first chunk: who speaks.
    pub fn role(&self) -> String {
        let delta = Delta {
            role: Some("assistant"),
            content: Some(""),
            ..Delta::default()
        };
        self.chunk(delta, None, None)
    }

    /// A piece of the answer, with the log-probabilities of its tokens where they were asked for.
    pub fn text(&self, text: &str, logprobs: Option<&[TokenLogprob]>) -> String {
        if logprobs.is_none() {
            let (before, after) = &self.text_frame;
            return format!("{before}{}{after}", json(&text));
        }
        let delta = Delta {
            content: Some(text),
            ..Delta::default()
        };
        self.chunk(delta, logprobs, None)
    }

    /// A piece of the reasoning, in the field that other servers use for it.
    pub fn reasoning(&self, text: &str) -> String {
        let delta = Delta {
            reasoning_content: Some(text),
            ..Delta::default()
        };
        self.chunk(delta, None, None)
    }

    /// The next bytes of tool calls: a chunk for each call that begins, and for each piece of arguments.
    pub fn tool_calls(&mut self, text: &str) -> Result<String, BadToolCall> {
        let mut chunks = String::new();
        for event in self.calls.push(text)? {
            let call = match &event {
                ToolCallEvent::Begun { id, name } => {
                    self.call_count += 1;
                    CallBody {
                        index: Some(self.call_count - 1),
                        id: Some(id),
                        kind: Some("function"),
                        function: FunctionBody {
                            name: Some(name),
                            arguments: "",
                        },
                    }
                }
                ToolCallEvent::Arguments(arguments) => CallBody {
                    index: Some(self.call_count.saturating_sub(1)),
                    id: None,
                    kind: None,
                    function: FunctionBody {
                        name: None,
                        arguments,
                    },
                },
            };
            let delta = Delta {
                tool_calls: Some([call]),
                ..Delta::default()
            };
            chunks.push_str(&self.chunk(delta, None, None));
        }
        Ok(chunks)
    }

    /// Why the answer ended.
    pub fn finish(&self, reason: FinishReason) -> String {
        self.chunk(Delta::default(), None, Some(reason))
    }

    /// What it cost, if the request asked; nothing otherwise.
    pub fn usage(&self, usage: Usage) -> String {
        if self.include_usage {
            self.event(&[], Some(UsageField::Told(usage.into())))
        } else {
            String::new()
        }
    }

    fn chunk(
        &self,
        delta: Delta<'_>,
        logprobs: Option<&[TokenLogprob]>,
        finish_reason: Option<FinishReason>,
    ) -> String {
        let choice = Choice {
            index: 0,
            delta,
            logprobs: logprobs.map(LogprobsBody::new),
            finish_reason,
        };
        self.event(&[choice], self.include_usage.then_some(UsageField::Null))
    }

    fn event(&self, choices: &[Choice<'_>], usage: Option<UsageField>) -> String {
        let chunk = Chunk {
            id: &self.head.id,
            object: "chat.completion.chunk",
            created: self.head.created,
            model: &self.head.model,
            choices,
            usage,
        };
        format!("data: {}\n\n", json(&chunk))
    }
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageField>,
}

/// The field `usage` where it exists: `null` in every chunk but the last.
#[derive(Serialize)]
#[serde(untagged)]
enum UsageField {
    Null,
    Told(UsageBody),
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<LogprobsBody<'a>>,
    finish_reason: Option<FinishReason>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[CallBody<'a>; 1]>,
}
