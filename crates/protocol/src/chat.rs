//! One request to a language model, as the relay carries it from client to node.
//!
//! Every API dialect is translated into [`ChatRequest`] at the edge; nodes know nothing else.

use serde::{Deserialize, Serialize};

use crate::limits::{
    IMAGES_MAX, LOGIT_BIASES_MAX, MESSAGES_MAX, SCHEMA_BYTES_MAX, SCHEMA_DEPTH_MAX, STOP_BYTES_MAX,
    STOPS_MAX, TOP_LOGPROBS_MAX,
};

mod message;
mod tool_stream;
mod tools;

pub use message::{ChatMessage, Image, Role, ToolCall};
pub use tool_stream::{BadToolCall, CALL_BEGIN, ToolCallEvent, ToolCallReader, begin_tool_call};
pub use tools::{Tool, ToolChoice};

/// A conversation and how to answer it.
///
/// Where the assistant spoke last, the answer goes on with that very turn (a prefill), and holds only what is new.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The conversation, oldest first.
    pub messages: Vec<ChatMessage>,
    /// How the next token is drawn.
    #[serde(default)]
    pub sampling: Sampling,
    /// The answer ends before the first of these; they are not part of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Tokens of the answer at most; without it, what is left of the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// What shape the answer must have.
    #[serde(default)]
    pub response_format: ResponseFormat,
    /// `Some(n)`: tell each token's log-probability and those of the `n` likeliest alternatives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u8>,
    /// Functions that the model may wish to have called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// Whether it does.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tool_choice: ToolChoice,
    /// Whether it may wish for several at once; without it, as the model is used to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// How much it thinks first, for models that do; without it, as the model is used to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<ReasoningEffort>,
}

/// How much a model thinks before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningEffort {
    /// Not at all.
    None,
    /// A little.
    Low,
    /// Some.
    Medium,
    /// A lot.
    High,
    /// An effort that this version does not know; as if there were none given.
    #[serde(other)]
    Unknown,
}

impl ReasoningEffort {
    /// The word that chat templates use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Unknown => "unknown",
        }
    }
}

/// How the next token is drawn. What is absent is the node's default for the model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 (always the likeliest) to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Nucleus: the likeliest tokens that sum up to this, above 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// The likeliest tokens only; 0 means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// At least this share of the likeliest token's probability, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// The same seed on the same otherwise idle node gives the same text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Subtracted from tokens seen at all, -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// Subtracted once per time a token was seen, -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    /// Added to single tokens' logits, -100 to 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logit_bias: Vec<LogitBias>,
}

/// A correction of one token's logit. (A list and not a map: JSON map keys would be strings.)
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LogitBias {
    /// The token's id in the model's vocabulary.
    pub token: u32,
    /// -100 (never) to 100 (always).
    pub bias: f32,
}

/// What shape the answer must have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Any text.
    #[default]
    Text,
    /// One JSON object.
    JsonObject,
    /// JSON that fits a schema.
    JsonSchema {
        /// The JSON schema.
        schema: serde_json::Value,
    },
    /// A format that this version does not know; refused.
    #[serde(other)]
    Unknown,
}

/// Why an answer ended well. A job that broke has no finish reason, but a [`crate::Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model was done, or a stop string came.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
    /// The model waits for what comes of its tool calls.
    ToolCalls,
    /// A reason that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What an answer cost, in tokens of the model's vocabulary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The rendered prompt.
    pub prompt_tokens: u32,
    /// The answer, its end-of-turn token included.
    pub completion_tokens: u32,
    /// Of the prompt's tokens, those that the node had in its cache and did not read again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cached_tokens: u32,
}

/// A request breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidRequest {
    /// The field, in the words of the `OpenAI` request.
    pub param: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl ChatRequest {
    /// Checks every rule that does not need the model: lengths and ranges.
    pub fn validate(&self) -> Result<(), InvalidRequest> {
        self.validate_messages()?;
        self.sampling.validate()?;
        if self.stop.len() > STOPS_MAX {
            return invalid(
                "stop",
                format!("at most {STOPS_MAX} stop strings are taken"),
            );
        }
        if self
            .stop
            .iter()
            .any(|stop| stop.is_empty() || stop.len() > STOP_BYTES_MAX)
        {
            return invalid(
                "stop",
                format!("a stop string has 1 to {STOP_BYTES_MAX} bytes"),
            );
        }
        if self.max_tokens == Some(0) {
            return invalid("max_tokens", "max_tokens must be at least 1");
        }
        if self.top_logprobs.is_some_and(|n| n > TOP_LOGPROBS_MAX) {
            return invalid(
                "top_logprobs",
                format!("top_logprobs is at most {TOP_LOGPROBS_MAX}"),
            );
        }
        tools::validate(&self.tools, &self.tool_choice)?;
        match &self.response_format {
            ResponseFormat::JsonSchema { schema } => check_schema("response_format", schema),
            ResponseFormat::Text | ResponseFormat::JsonObject => Ok(()),
            ResponseFormat::Unknown => invalid(
                "response_format",
                "response_format must be text, json_object or json_schema",
            ),
        }
    }

    fn validate_messages(&self) -> Result<(), InvalidRequest> {
        if self.messages.is_empty() {
            return invalid("messages", "messages must hold at least one message");
        }
        if self.messages.len() > MESSAGES_MAX {
            return invalid(
                "messages",
                format!("at most {MESSAGES_MAX} messages are taken"),
            );
        }
        for message in &self.messages {
            message.validate()?;
        }
        let images: usize = self
            .messages
            .iter()
            .map(|message| message.images.len())
            .sum();
        if images > IMAGES_MAX {
            return invalid("messages", format!("at most {IMAGES_MAX} images are taken"));
        }
        Ok(())
    }

    /// Whether there are pictures in it.
    pub fn has_images(&self) -> bool {
        self.messages
            .iter()
            .any(|message| !message.images.is_empty())
    }

    /// Bytes that the model will read, pictures left out.
    pub fn prompt_bytes(&self) -> usize {
        let messages = self.messages.iter().map(|message| {
            let calls = message.tool_calls.iter();
            message.content.len()
                + message.name.as_ref().map_or(0, String::len)
                + message.reasoning.as_ref().map_or(0, String::len)
                + calls
                    .map(|call| call.name.len() + call.arguments.len())
                    .sum::<usize>()
        });
        messages.sum::<usize>() + self.tools.iter().map(Tool::bytes).sum::<usize>()
    }
}

impl Sampling {
    fn validate(&self) -> Result<(), InvalidRequest> {
        range("temperature", self.temperature, 0.0, 2.0)?;
        range("top_p", self.top_p, 0.0, 1.0)?;
        if self.top_p == Some(0.0) {
            return invalid(
                "top_p",
                "top_p must be above 0; use temperature 0 for the likeliest token",
            );
        }
        range("min_p", self.min_p, 0.0, 1.0)?;
        range("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        if self.logit_bias.len() > LOGIT_BIASES_MAX {
            return invalid(
                "logit_bias",
                format!("at most {LOGIT_BIASES_MAX} biases are taken"),
            );
        }
        for bias in &self.logit_bias {
            range("logit_bias", Some(bias.bias), -100.0, 100.0)?;
        }
        Ok(())
    }
}

/// What holds for every JSON schema: a grammar is made of it on the node.
fn check_schema(param: &'static str, schema: &serde_json::Value) -> Result<(), InvalidRequest> {
    if schema.to_string().len() > SCHEMA_BYTES_MAX {
        return invalid(
            param,
            format!("the JSON schema is over {SCHEMA_BYTES_MAX} bytes"),
        );
    }
    if depth(schema) > SCHEMA_DEPTH_MAX {
        return invalid(
            param,
            format!("the JSON schema is nested over {SCHEMA_DEPTH_MAX} levels deep"),
        );
    }
    if !schema.is_object() {
        return invalid(param, "the JSON schema must be an object");
    }
    Ok(())
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Levels of arrays and objects; what was read from JSON has 128 at most.
fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => 0,
    }
}

fn range(
    param: &'static str,
    value: Option<f32>,
    least: f32,
    most: f32,
) -> Result<(), InvalidRequest> {
    match value {
        // A NaN is in no range.
        Some(value) if !(least..=most).contains(&value) => {
            invalid(param, format!("{param} must be between {least} and {most}"))
        }
        Some(_) | None => Ok(()),
    }
}

pub(crate) fn invalid(
    param: &'static str,
    message: impl Into<String>,
) -> Result<(), InvalidRequest> {
    Err(InvalidRequest {
        param,
        message: message.into(),
    })
}
