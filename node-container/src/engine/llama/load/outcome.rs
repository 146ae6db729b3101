//! What was loaded, or why nothing was.

use std::path::PathBuf;

use chat_format::template::TemplateError;

use crate::engine::tuning::Tuned;
use crate::engine::vision::VisionError;

/// What was loaded.
#[expect(
    clippy::struct_excessive_bools,
    reason = "abilities come in any combination"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Tokens per slot.
    pub context_tokens: u32,
    /// Weights, in bytes.
    pub model_bytes: u64,
    /// Devices that llama.cpp computes on.
    pub devices: Vec<String>,
    /// Whether it can be talked to.
    pub has_chat: bool,
    /// Whether pictures can be shown to it.
    pub has_vision: bool,
    /// Whether its tool calls are understood.
    pub has_tools: bool,
    /// Whether it makes vectors of texts.
    pub has_embeddings: bool,
    /// Threads, and how prompts are read: set, or found at start.
    pub tuned: Tuned,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No such file, or no rights.
    #[error("the model file {path} cannot be read: {error}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Something else than a model.
    #[error("{0} is not a GGUF file: llama.cpp loads models in that format only")]
    NotGguf(PathBuf),
    /// llama.cpp's compute libraries are missing.
    #[error(
        "llama.cpp found nothing to compute with: its backend libraries (libggml-cpu-*.so) must lie in the folder `backends` beside this program"
    )]
    NoBackend,
    /// llama.cpp would not start.
    #[error("llama.cpp did not start: {0}")]
    Backend(String),
    /// llama.cpp refused the file.
    #[error(
        "llama.cpp could not load {path}: {error}; the file is damaged, its architecture is unknown, or memory is short (RUST_LOG=debug tells what llama.cpp says)"
    )]
    Model {
        /// Which file.
        path: PathBuf,
        /// What llama.cpp says.
        error: String,
    },
    /// More context than the model can use.
    #[error("the model was trained for a context of {trained} tokens, but {asked} were asked for")]
    ContextTooLong {
        /// The model's limit.
        trained: u32,
        /// The configured number.
        asked: u32,
    },
    /// The cache could not be made.
    #[error(
        "llama.cpp could not make {slots} slots of {context_tokens} tokens: {error}; use fewer slots or a shorter context"
    )]
    Context {
        /// The configured number.
        slots: u32,
        /// Tokens per slot.
        context_tokens: u32,
        /// What llama.cpp says.
        error: String,
    },
    /// The chat template is missing or beyond us.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Pictures could not be shown to it.
    #[error(transparent)]
    Vision(#[from] VisionError),
    /// The operating system gave no thread.
    #[error("the engine's thread did not start: {0}")]
    Thread(String),
}

impl LoadError {
    /// Whether it stays so until somebody changes the settings or the file: waiting does not help.
    pub const fn is_lasting(&self) -> bool {
        match self {
            Self::NotGguf(_) | Self::ContextTooLong { .. } | Self::Template(_) => true,
            Self::Unreadable { .. }
            | Self::NoBackend
            | Self::Backend(_)
            | Self::Model { .. }
            | Self::Context { .. }
            | Self::Vision(_)
            | Self::Thread(_) => false,
        }
    }
}
