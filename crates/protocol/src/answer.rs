//! An answer so far: what each end keeps of it, how it is carried in a control frame, and how two ends agree on it.
//!
//! Offsets count the bytes of all kinds of delta together, tokens count over the whole answer, attempts notwithstanding.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};

use crate::frame::DeltaKind;
use crate::limits::{CARRIED_BYTES_MAX, CARRIED_PIECES_MAX, CARRIED_TOKENS_MAX, NAME_BYTES_MAX};

mod transcript;

pub use transcript::Transcript;

/// SHA-256 of an answer's first bytes; 64 lower-case hexadecimal digits in JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnswerHash([u8; 32]);

impl AnswerHash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl Default for AnswerHash {
    /// The hash of nothing.
    fn default() -> Self {
        Self::of(&[])
    }
}

impl std::fmt::Debug for AnswerHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnswerHash(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

impl Serialize for AnswerHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for AnswerHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        let is_canonical = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        match hex::decode_to_slice(text.as_bytes(), &mut bytes) {
            Ok(()) if is_canonical => Ok(Self(bytes)),
            Ok(()) | Err(_) => Err(D::Error::custom("a hash is 64 hexadecimal digits")),
        }
    }
}

/// A running hash, for an end that drops bytes once they are acknowledged.
#[derive(Debug, Clone, Default)]
pub struct RunningHash(Sha256);

impl RunningHash {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash by now.
    pub fn hash(&self) -> AnswerHash {
        AnswerHash(self.0.clone().finalize().into())
    }
}

/// What the bytes of a piece are; [`DeltaKind`] in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PieceKind {
    /// Answer text.
    Text,
    /// Reasoning text.
    Reasoning,
    /// A piece of a tool call.
    ToolCall,
    /// Log-probabilities: they count in offsets, and are no text of the answer.
    Logprobs,
    /// A kind that this version does not know: such an answer cannot be continued.
    #[serde(other)]
    Unknown,
}

impl From<DeltaKind> for PieceKind {
    fn from(kind: DeltaKind) -> Self {
        match kind {
            DeltaKind::Text => Self::Text,
            DeltaKind::Reasoning => Self::Reasoning,
            DeltaKind::ToolCall => Self::ToolCall,
            DeltaKind::Logprobs => Self::Logprobs,
            DeltaKind::Unknown(_) => Self::Unknown,
        }
    }
}

impl PieceKind {
    /// The kind in token frames; `None` for one that has no number here.
    pub const fn delta(self) -> Option<DeltaKind> {
        match self {
            Self::Text => Some(DeltaKind::Text),
            Self::Reasoning => Some(DeltaKind::Reasoning),
            Self::ToolCall => Some(DeltaKind::ToolCall),
            Self::Logprobs => Some(DeltaKind::Logprobs),
            Self::Unknown => None,
        }
    }
}

/// Deltas of one kind, joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// What the text is.
    pub kind: PieceKind,
    /// The bytes; deltas hold whole characters.
    pub text: String,
    /// The tokens that the text stands for, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<u32>,
}

/// What a client has of an answer, so that a node can go on with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The model whose vocabulary the tokens are of; absent where several models took part. A node with this model goes
    /// on from the tokens, any other from the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The answer, in order.
    pub pieces: Vec<Piece>,
}

/// Why an answer cannot be carried or continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAnswer(&'static str);

impl Answer {
    /// Bytes of all pieces.
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.text.len()).sum()
    }

    /// Tokens of all pieces.
    pub fn token_count(&self) -> usize {
        self.pieces.iter().map(|piece| piece.tokens.len()).sum()
    }

    /// Checks what a peer sent.
    pub fn validate(&self) -> Result<(), InvalidAnswer> {
        if self
            .model
            .as_ref()
            .is_some_and(|model| model.len() > NAME_BYTES_MAX)
        {
            return Err(InvalidAnswer("the model's name is too long"));
        }
        if self.pieces.len() > CARRIED_PIECES_MAX
            || self.bytes() > CARRIED_BYTES_MAX
            || self.token_count() > CARRIED_TOKENS_MAX
        {
            return Err(InvalidAnswer("the answer is too long to be carried"));
        }
        if self
            .pieces
            .iter()
            .any(|piece| piece.kind == PieceKind::Unknown)
        {
            return Err(InvalidAnswer(
                "the answer has a kind of delta that this version lacks",
            ));
        }
        Ok(())
    }
}
