//! Why a model cannot be loaded, or go on.

use crate::gpu::GpuError;
use crate::model::{Refusal, TooLarge};
use crate::plan::UploadError;
use crate::tokenizer::VocabularyError;
use gguf::{GgufError, WrongType};

/// Why there is no engine. Nothing of the weights is asked for before all that the header tells has been checked.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is no GGUF, or a broken one.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A model that cannot be run.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A key of the tokenizer has another type than it must.
    #[error(transparent)]
    WrongType(#[from] WrongType),
    /// The tokenizer cannot be run.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The model does not fit the memory that it may take.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A part of it does not fit the adapter.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The device refuses or is gone.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The settings cannot be.
    #[error("{0}")]
    Settings(&'static str),
    /// Bytes beyond the weights' end are no matter; bytes that are missing are.
    #[error("the file ends after {bytes} bytes, and its weights end at {end}")]
    Truncated {
        /// What came.
        bytes: u64,
        /// What there must be.
        end: u64,
    },
}

impl LoadError {
    /// Whether a new device would mend it.
    pub const fn is_lost(&self) -> bool {
        match self {
            Self::Gpu(error) | Self::Upload(UploadError::Gpu(error)) => error.is_lost(),
            Self::Upload(
                UploadError::RowTooLarge { .. }
                | UploadError::Tensor(_)
                | UploadError::NotBlocks(_),
            )
            | Self::Gguf(_)
            | Self::Refused(_)
            | Self::WrongType(_)
            | Self::Vocabulary(_)
            | Self::TooLarge(_)
            | Self::Settings(_)
            | Self::Truncated { .. } => false,
        }
    }
}

/// Why a session cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The prompt leaves no room for an answer.
    #[error("the prompt has {tokens} tokens, and the context holds {context}")]
    ContextFull {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens of the context.
        context: u32,
    },
    /// There is nothing to answer.
    #[error("a prompt has at least one token")]
    Empty,
    /// The vocabulary has no such token.
    #[error("the vocabulary has no token {0}")]
    UnknownToken(u32),
    /// All sessions that the model was loaded for are taken.
    #[error("the model was loaded for {0} sessions, and there are as many")]
    SessionsFull(u32),
    /// Sampling rules that mean nothing.
    #[error("{0}")]
    Rules(&'static str),
    /// The device refuses or is gone.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

impl RunError {
    /// Whether a new device would mend it.
    pub const fn is_lost(&self) -> bool {
        match self {
            Self::Gpu(error) => error.is_lost(),
            Self::ContextFull { .. }
            | Self::Empty
            | Self::UnknownToken(_)
            | Self::SessionsFull(_)
            | Self::Rules(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Lost;

    #[test]
    fn a_device_lost_while_a_model_comes_is_known_wherever_it_was_noticed() {
        let lost = || GpuError::Lost(Lost("gone".to_owned()));
        assert!(LoadError::Gpu(lost()).is_lost());
        assert!(LoadError::Upload(UploadError::Gpu(lost())).is_lost());
        assert!(RunError::Gpu(lost()).is_lost());
        assert!(!LoadError::Gpu(GpuError::Refused("no room".to_owned())).is_lost());
    }
}
