//! The header of a GGUF file: metadata and an index of tensors, read while its bytes arrive. Nothing of the weights.
//!
//! ```text
//! pieces of any size ─▶ Parser::push ─▶ More … ─▶ Whole { taken, header }
//! ```
//!
//! What it is not: a judge of models. Whether one can be run, and in how much memory, is said by whoever reads the
//! header; here a file is refused only where it breaks its format or a limit. Everything in a header was written by
//! somebody else: each length has a limit ([`limits`]), nothing is allocated beyond what has come, and what is not
//! understood is an error, never a guess. Only [`Parser::lenient`] lets some of it pass, marked as not known.
//!
//! The format is described in `docs/gguf.md` of the ggml project.

mod error;
mod index;
pub mod limits;
mod metadata;
mod parser;
mod tensor;

pub use error::GgufError;
pub use metadata::{Metadata, Numbers, Scalar, Texts, Value, WrongType};
pub use parser::{Parser, Progress, read};
pub use tensor::{Dimensions, TensorInfo, TensorType};

use std::ops::Range;

/// What stands before the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Of the format: 2 or 3, which differ in nothing that is read here.
    pub version: u32,
    /// Keys and values.
    pub metadata: Metadata,
    /// Where the weights begin in the file, in bytes.
    pub data_offset: u64,
    /// What the offset of every tensor is a multiple of, in bytes.
    pub alignment: u64,
    index: index::Index,
}

impl Header {
    /// All tensors, as they lie in the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        self.index.tensors()
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.tensor(name)
    }

    /// Where a tensor lies in the file, in bytes; only where it begins, if its type is not known ([`Parser::lenient`]).
    /// The parser has checked that no sum overflows.
    pub const fn range(&self, tensor: &TensorInfo) -> Range<u64> {
        let start = self.data_offset + tensor.offset;
        start..start + tensor.bytes
    }

    /// Where the last tensor ends: the smallest file that holds them all, in bytes. If the last one's type is not known
    /// ([`Parser::lenient`]), the file is longer than this.
    pub fn file_bytes(&self) -> u64 {
        let last = self.tensors().last();
        last.map_or(self.data_offset, |tensor| self.range(tensor).end)
    }
}

#[cfg(test)]
mod tests;
