//! One request for embeddings, and how the vectors travel.
//!
//! The answer is text, so that it is streamed, acknowledged and gone on with like any other: one line for each input, in
//! order, with the vector's 32-bit floats (little-endian) in standard base64. Whoever goes on with such an answer skips
//! the inputs whose lines are whole.

use serde::{Deserialize, Serialize};

use crate::chat::{InvalidRequest, invalid};
use crate::limits::EMBED_INPUTS_MAX;

/// Texts to be turned into vectors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbedRequest {
    /// The texts.
    pub inputs: Vec<String>,
    /// Keep only this many numbers of each vector, scaled to length 1 again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
}

impl EmbedRequest {
    /// Checks every rule that does not need the model.
    pub fn validate(&self) -> Result<(), InvalidRequest> {
        if self.inputs.is_empty() || self.inputs.len() > EMBED_INPUTS_MAX {
            return invalid("input", format!("1 to {EMBED_INPUTS_MAX} inputs are taken"));
        }
        if self.inputs.iter().any(String::is_empty) {
            return invalid("input", "an input must not be empty");
        }
        if self.dimensions == Some(0) {
            return invalid("dimensions", "dimensions must be at least 1");
        }
        Ok(())
    }

    /// Bytes of all inputs.
    pub fn bytes(&self) -> usize {
        self.inputs.iter().map(String::len).sum()
    }
}
