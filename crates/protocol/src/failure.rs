//! How failure is said: a code, a sentence for people, and when to try again.

use serde::{Deserialize, Serialize};

use crate::limits::FAILURE_MESSAGE_BYTES_MAX;

/// What went wrong; stable, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request breaks a rule; `param` names the field.
    InvalidRequest,
    /// No such model or tier in the catalog.
    UnknownModel,
    /// The prompt does not fit the model's context.
    ContextLengthExceeded,
    /// The model, or every node that has it, lacks something the request needs.
    CapabilityMissing,
    /// The queue for this model is at its limit.
    QueueFull,
    /// The pool's memory for content is used up.
    MemoryFull,
    /// The body or frame is over its limit.
    TooLarge,
    /// No key, or a wrong one.
    Unauthorized,
    /// No such job for this client.
    UnknownJob,
    /// This job id is in use.
    DuplicateJob,
    /// A message out of order or not of this direction.
    ProtocolError,
    /// The node's connection ended before the answer did.
    NodeLost,
    /// The node made no progress within its lease.
    LeaseExpired,
    /// The node's engine could not go on.
    EngineFailed,
    /// The node stops and takes no more work.
    Draining,
    /// The client asked to stop.
    Cancelled,
    /// The client stayed away for longer than the grace period.
    ClientGone,
    /// The client read too slowly for too long.
    SlowReader,
    /// A fault of the relay's own.
    Internal,
    /// A code that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A failure as it crosses the wire. Never quotes a prompt or an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what happened and what to do.
    pub message: String,
    /// The field at fault, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// Wait this long before trying again, where waiting helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// A failure of `code`; the sentence is cut at its limit.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(FAILURE_MESSAGE_BYTES_MAX));
        Self {
            code,
            message,
            param: None,
            retry_after_ms: None,
        }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub const fn with_retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// Checks what a peer sent: an over-long sentence is cut, nothing else can be wrong.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self {
            param: self.param.map(|mut param| {
                param.truncate(param.floor_char_boundary(crate::limits::NAME_BYTES_MAX));
                param
            }),
            retry_after_ms: self.retry_after_ms,
            ..Self::new(self.code, self.message)
        }
    }
}
