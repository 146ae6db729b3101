//! `heliograph.v1`: the wire between clients, the relay and nodes.
//!
//! What it is: types, limits and codecs, one enum per direction. What it is not: no IO, no clock, no policy.
//!
//! ```text
//! client ──ClientToRelay──▶ relay ──RelayToNode──▶ node        control frames: JSON text
//! client ◀──RelayToClient── relay ◀──NodeToRelay── node
//! client ◀═══token frame═══ relay ◀═══token frame═ node        token frames: binary, `frame`
//! ```
//!
//! `PROTOCOL.md` is the specification; `fixtures/v1` holds golden frames.

pub mod answer;
pub mod chat;
pub mod client;
pub mod close;
pub mod embed;
pub mod failure;
pub mod frame;
pub mod id;
pub mod limits;
pub mod node;
pub mod request;

#[cfg(test)]
mod tests;

pub use answer::{Answer, AnswerHash, InvalidAnswer, Piece, PieceKind, RunningHash, Transcript};
pub use chat::{
    ChatMessage, ChatRequest, FinishReason, Image, InvalidRequest, ReasoningEffort, Role, Tool,
    ToolCall, ToolChoice, Usage,
};
pub use client::{ClientToRelay, RelayToClient, Speed, WaitRange};
pub use close::CloseCode;
pub use embed::EmbedRequest;
pub use failure::{ErrorCode, Failure};
pub use frame::{DeltaKind, Entry, FrameError, TokenFrame, TokenFrameWriter};
pub use id::{Alias, JobId, PrefixHash};
pub use node::{
    Capabilities, Machine, MeasuredSpeed, ModelOffer, NodeClass, NodeToRelay, RelayToNode,
};
pub use request::JobRequest;

use serde::{Serialize, de::DeserializeOwned};

/// The WebSocket subprotocol of version 1. A peer that offers none of ours is refused before the upgrade.
pub const SUBPROTOCOL: &str = "heliograph.v1";

/// The exact text of a heartbeat, so that the platform can answer it without waking the relay.
pub const PING: &str = r#"{"type":"ping"}"#;

/// The exact text of the answer to [`PING`].
pub const PONG: &str = r#"{"type":"pong"}"#;

/// Why a control frame could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame is longer than its direction allows.
    #[error("frame of {bytes} bytes is over the limit of {bytes_max}")]
    TooLong {
        /// Length of the frame.
        bytes: usize,
        /// The limit that it broke, from [`limits`].
        bytes_max: usize,
    },
    /// Not JSON, or not a message of this direction.
    #[error("not a message of this direction: {0}")]
    Malformed(String),
}

/// Reads one control frame.
///
/// Unknown fields are ignored; a variant that this version lacks becomes `Unknown`.
pub fn decode<T: DeserializeOwned>(text: &str, bytes_max: usize) -> Result<T, DecodeError> {
    if text.len() > bytes_max {
        return Err(DecodeError::TooLong {
            bytes: text.len(),
            bytes_max,
        });
    }
    // serde_json's recursion limit (128) bounds the depth.
    serde_json::from_str(text).map_err(|error| DecodeError::Malformed(describe(&error)))
}

/// Writes one control frame.
pub fn encode<T: Serialize>(message: &T) -> String {
    // Our messages have string keys only, so that serialising cannot fail; an empty frame would be refused by the peer.
    serde_json::to_string(message).unwrap_or_default()
}

/// Says where JSON broke without quoting it: an error text may reach a log, and content must not.
fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Io => "unreadable",
        serde_json::error::Category::Syntax => "invalid JSON",
        serde_json::error::Category::Data => "a field is missing or of the wrong type",
        serde_json::error::Category::Eof => "truncated JSON",
    };
    format!("{what} at line {} column {}", error.line(), error.column())
}
