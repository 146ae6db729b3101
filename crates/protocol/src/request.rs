//! What a job asks of its model.

use serde::{Deserialize, Serialize};

use crate::chat::{ChatRequest, InvalidRequest, invalid};
use crate::embed::EmbedRequest;

/// What a job asks of its model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum JobRequest {
    /// A conversation to be gone on with.
    Chat(ChatRequest),
    /// Texts to be turned into vectors.
    Embed(EmbedRequest),
    /// A kind that this version does not know; refused.
    #[serde(other)]
    Unknown,
}

impl JobRequest {
    /// Checks every rule that does not need the model: lengths and ranges.
    pub fn validate(&self) -> Result<(), InvalidRequest> {
        match self {
            Self::Chat(request) => request.validate(),
            Self::Embed(request) => request.validate(),
            Self::Unknown => invalid("kind", "kind must be chat or embed"),
        }
    }

    /// The conversation, where it is one.
    pub const fn as_chat(&self) -> Option<&ChatRequest> {
        match self {
            Self::Chat(request) => Some(request),
            Self::Embed(_) | Self::Unknown => None,
        }
    }

    /// Tokens of the answer at most, where the request says so. A vector is no token.
    pub const fn max_tokens(&self) -> Option<u32> {
        match self {
            Self::Chat(request) => request.max_tokens,
            Self::Embed(_) | Self::Unknown => Some(0),
        }
    }

    /// Bytes that the model will read, pictures left out.
    pub fn prompt_bytes(&self) -> usize {
        match self {
            Self::Chat(request) => request.prompt_bytes(),
            Self::Embed(request) => request.bytes(),
            Self::Unknown => 0,
        }
    }

    /// Pictures in it.
    pub fn images(&self) -> usize {
        let messages = self.as_chat().map_or(&[][..], |request| &request.messages);
        messages.iter().map(|message| message.images.len()).sum()
    }

    /// Turns of the conversation; an input counts as one.
    pub const fn turns(&self) -> usize {
        match self {
            Self::Chat(request) => request.messages.len(),
            Self::Embed(request) => request.inputs.len(),
            Self::Unknown => 0,
        }
    }
}

impl From<ChatRequest> for JobRequest {
    fn from(request: ChatRequest) -> Self {
        Self::Chat(request)
    }
}

impl From<EmbedRequest> for JobRequest {
    fn from(request: EmbedRequest) -> Self {
        Self::Embed(request)
    }
}
