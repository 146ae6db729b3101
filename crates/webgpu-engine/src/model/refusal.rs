//! Why a model cannot be run: one sentence for whoever chose it.

use gguf::{Dimensions, WrongType};

/// A model that is not run. The sentence goes to a person; names in it are the file's own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// One that this engine does not know.
    #[error(
        "models of the architecture `{0}` cannot be run here; llama, qwen2, qwen3 and gemma3 can"
    )]
    Architecture(String),
    /// Something that the architecture may have, and this engine has not.
    #[error("the model has {0}, which this engine does not have")]
    Unsupported(&'static str),
    /// A key that the model cannot do without.
    #[error("the GGUF file does not say its `{0}`")]
    Missing(String),
    /// A value that is not of the type that its key asks for.
    #[error(transparent)]
    WrongType(#[from] WrongType),
    /// A value that cannot be meant.
    #[error("`{0}` of the GGUF file has an impossible value")]
    Impossible(String),
    /// A tensor that the model cannot do without.
    #[error("the GGUF file has no tensor `{0}`")]
    MissingTensor(String),
    /// A tensor that is not as the metadata says.
    #[error("tensor `{name}` of the GGUF file has the shape {found}; it should be {wanted}")]
    TensorShape {
        /// Which tensor.
        name: String,
        /// Its shape.
        found: Dimensions,
        /// What the metadata asks for.
        wanted: Dimensions,
    },
    /// A type without a kernel, or one that this tensor cannot have.
    #[error("tensor `{name}` of the GGUF file is of the type {kind}, which cannot be run")]
    TensorType {
        /// Which tensor.
        name: String,
        /// ggml's name of its type.
        kind: &'static str,
    },
    /// A tensor that nothing would use: the model is not what its architecture says.
    #[error("the GGUF file has a tensor `{0}`, which its architecture has no place for")]
    UnknownTensor(String),
}
