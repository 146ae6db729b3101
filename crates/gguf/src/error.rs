//! Why a header is refused: one sentence for whoever chose the file.

use std::borrow::Cow;

use super::limits;

/// A header that is not as the format says, or beyond a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// Something else.
    #[error("this is not a GGUF file")]
    NotGguf,
    /// Written on, and for, machines with the other order of bytes.
    #[error("the GGUF file is big-endian; only little-endian ones can be read")]
    BigEndian,
    /// Too old or too new.
    #[error("the GGUF file is of version {0}; versions 2 and 3 can be read")]
    Version(u32),
    /// The file ends inside of its header, or says that it does.
    #[error("the GGUF file ends inside of its header")]
    Truncated,
    /// Beyond [`limits::HEADER_BYTES_MAX`].
    #[error(
        "the header of the GGUF file is longer than {} bytes",
        limits::HEADER_BYTES_MAX
    )]
    HeaderTooLong,
    /// A count beyond its limit.
    #[error("the GGUF file has {count} {what}; at most {max} can be read")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// As the file says.
        count: u64,
        /// The limit.
        max: u64,
    },
    /// A length beyond its limit.
    #[error("{what} of the GGUF file has {bytes} bytes; at most {max} can be read")]
    TooLong {
        /// What.
        what: &'static str,
        /// As the file says.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A key or a name that is empty or no text.
    #[error("{0} of the GGUF file is empty or not UTF-8")]
    NotText(&'static str),
    /// A key that comes twice.
    #[error("the GGUF file says `{0}` twice")]
    KeyTwice(String),
    /// A value, or an array's elements, of a type that the format does not have. Arrays of arrays are among them: the
    /// format has them, and nobody uses them.
    #[error("`{key}` of the GGUF file has values of the unknown type {kind}")]
    ValueType {
        /// Whose value.
        key: String,
        /// As the file says.
        kind: u32,
    },
    /// Not a power of two, or beyond the limits.
    #[error(
        "`general.alignment` of the GGUF file is not a power of two from {min} to {}",
        limits::ALIGNMENT_MAX
    )]
    Alignment {
        /// The least that this parser takes.
        min: u64,
    },
    /// A tensor that comes twice.
    #[error("the GGUF file has two tensors called `{0}`")]
    TensorTwice(String),
    /// More than four dimensions, one of nothing, or a product beyond 64 bits.
    #[error("tensor `{0}` of the GGUF file has an impossible shape")]
    Shape(String),
    /// A type that ggml does not have, or no longer.
    #[error("tensor `{name}` of the GGUF file is of the unknown type {kind}")]
    TensorType {
        /// Which tensor.
        name: String,
        /// ggml's number.
        kind: u32,
    },
    /// Rows that do not consist of whole blocks.
    #[error(
        "rows of tensor `{name}` of the GGUF file have {row} weights, which are no whole blocks of {block}"
    )]
    PartialBlock {
        /// Which tensor.
        name: String,
        /// Weights in a row.
        row: u64,
        /// Weights in a block of the tensor's type.
        block: u64,
    },
    /// Not at a multiple of the alignment.
    #[error(
        "tensor `{name}` of the GGUF file lies at {offset}, which is no multiple of {alignment}"
    )]
    Misaligned {
        /// Which tensor.
        name: String,
        /// Bytes after the beginning of the weights.
        offset: u64,
        /// As the file says.
        alignment: u64,
    },
    /// Two tensors that share bytes.
    #[error("tensors `{first}` and `{second}` of the GGUF file overlap")]
    Overlap {
        /// The one that begins earlier.
        first: String,
        /// The other.
        second: String,
    },
    /// A tensor that would end behind the file, or beyond 64 bits.
    #[error("tensor `{0}` lies outside of the GGUF file")]
    OutsideFile(String),
    /// More bytes for a parser that has its header, or has refused the file.
    #[error("the header of the GGUF file is already read")]
    Over,
}

impl GgufError {
    /// The same without names and keys of the file, which are somebody else's text: for logs.
    pub fn without_names(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::KeyTwice(_) => "the GGUF file says a key twice",
            Self::ValueType { .. } => "the GGUF file has values of an unknown type",
            Self::TensorTwice(_) => "the GGUF file has two tensors of the same name",
            Self::Shape(_) => "a tensor of the GGUF file has an impossible shape",
            Self::TensorType { .. } => "a tensor of the GGUF file is of an unknown type",
            Self::PartialBlock { .. } => "rows of a tensor of the GGUF file are no whole blocks",
            Self::Misaligned { .. } => {
                "a tensor of the GGUF file lies at no multiple of the alignment"
            }
            Self::Overlap { .. } => "two tensors of the GGUF file overlap",
            Self::OutsideFile(_) => "a tensor lies outside of the GGUF file",
            Self::NotGguf
            | Self::BigEndian
            | Self::Version(_)
            | Self::Truncated
            | Self::HeaderTooLong
            | Self::TooMany { .. }
            | Self::TooLong { .. }
            | Self::NotText(_)
            | Self::Alignment { .. }
            | Self::Over => return Cow::Owned(self.to_string()),
        })
    }
}
