//! What a GGUF file says about its tokens, as plain data, and the limits of it.

use gguf::{Metadata, Scalar, Texts, WrongType};

/// More tokens than any published vocabulary has; ten times that of Gemma 3.
pub const TOKENS_MAX: usize = 1 << 22;

/// More merges than any published vocabulary has.
pub const MERGES_MAX: usize = 1 << 22;

/// Bytes of one token. The longest published ones are runs of a few hundred blanks. A look for a token reads at most
/// so many bytes, which keeps the time for a text linear in its length.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Bytes of all tokens together, and of all merges together: what the header of a GGUF file may hold of them.
pub const VOCABULARY_BYTES_MAX: usize = 32 << 20;

/// The tokens that a file names by their part, each by its id. An id beyond the vocabulary counts as not named, as in
/// llama.cpp.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each is `tokenizer.ggml.…_token_id` of its name"
)]
pub struct NamedTokens {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub eot: Option<u32>,
    pub eom: Option<u32>,
    pub unknown: Option<u32>,
    pub fim_pre: Option<u32>,
    pub fim_suf: Option<u32>,
    pub fim_mid: Option<u32>,
    pub fim_pad: Option<u32>,
    pub fim_rep: Option<u32>,
    pub fim_sep: Option<u32>,
}

impl NamedTokens {
    fn from_metadata(metadata: &Metadata) -> Result<Self, WrongType> {
        let id = |part: &str| {
            let id = metadata.unsigned(&format!("tokenizer.ggml.{part}_token_id"))?;
            Ok(id.and_then(|id| u32::try_from(id).ok()))
        };
        // The last three have an older name.
        let either = |part: &str, older: &str| Ok(id(older)?.or(id(part)?));
        Ok(Self {
            bos: id("bos")?,
            eos: id("eos")?,
            eot: id("eot")?,
            eom: id("eom")?,
            unknown: id("unknown")?,
            fim_pre: either("fim_pre", "prefix")?,
            fim_suf: either("fim_suf", "suffix")?,
            fim_mid: either("fim_mid", "middle")?,
            fim_pad: id("fim_pad")?,
            fim_rep: id("fim_rep")?,
            fim_sep: id("fim_sep")?,
        })
    }
}

/// The metadata of a GGUF file from which a [`Tokenizer`](super::Tokenizer) is made. Absent keys are `None` or empty.
///
/// `tokenizer.ggml.remove_extra_whitespaces` is not among it: llama.cpp heeds it for a kind of vocabulary (T5's) that
/// is refused here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vocabulary {
    /// `tokenizer.ggml.model`: `gpt2` is byte-level BPE, `llama` is SPM.
    pub model: String,
    /// `tokenizer.ggml.pre`: how BPE cuts texts.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`
    pub tokens: Texts,
    /// `tokenizer.ggml.token_type`, by id.
    pub types: Vec<i32>,
    /// `tokenizer.ggml.scores`, by id; SPM merges the highest first.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.merges`: two texts with a space between them, those that merge first before others.
    pub merges: Texts,
    /// `tokenizer.ggml.add_space_prefix`
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.ggml.add_bos_token`
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`
    pub add_eos: Option<bool>,
    /// Ids of tokens with a part of their own.
    pub named: NamedTokens,
    /// `general.name`: Phi 3 is known by it.
    pub model_name: String,
}

/// Why there is no tokenizer for a [`Vocabulary`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyError {
    /// A kind of vocabulary that this engine does not know.
    #[error("tokenizer model {0:?} is not supported: only \"gpt2\" (BPE) and \"llama\" (SPM) are")]
    UnsupportedModel(String),
    /// BPE that cuts texts in a way that this engine does not know.
    #[error("pre-tokenizer {0:?} is not supported")]
    UnsupportedPreTokenizer(String),
    /// A vocabulary without tokens.
    #[error("the vocabulary has no tokens")]
    NoTokens,
    /// BPE without `tokenizer.ggml.merges`.
    #[error("the vocabulary has no merges")]
    NoMerges,
    /// A list is larger than anything published.
    #[error("{what}: {count} are more than {max}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A token is longer than [`TOKEN_BYTES_MAX`].
    #[error("token {id} is {bytes} bytes long; the limit is {TOKEN_BYTES_MAX}")]
    TokenTooLong {
        /// Which token.
        id: usize,
        /// Its length.
        bytes: usize,
    },
    /// Two tokens have the same text, so that a text has no one writing; llama.cpp stops at it.
    #[error("tokens {first} and {second} have the same text")]
    DuplicateToken {
        /// The one with the lower id.
        first: u32,
        /// The other.
        second: u32,
    },
    /// A list is shorter than that of the tokens.
    #[error("{tokens} tokens, but only {count} {what}")]
    TooFew {
        /// `types` or `scores`.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many tokens there are.
        tokens: usize,
    },
    /// A score by which nothing can be ordered.
    #[error("the score of token {id} is not a number")]
    ScoreNotANumber {
        /// Which token.
        id: usize,
    },
    /// A merge that does not consist of two texts.
    #[error("merge {index} has no space between two texts")]
    MalformedMerge {
        /// Which merge.
        index: usize,
    },
    /// The file wants a token before or behind every text, and has none.
    #[error("the vocabulary wants {0} added, but has no such token")]
    MissingNamed(&'static str),
}

/// llama.cpp takes scores of either type.
#[expect(
    clippy::cast_precision_loss,
    reason = "scores that are whole numbers are small, and llama.cpp rounds them the same way"
)]
fn score(number: Scalar) -> f32 {
    let whole = || number.signed().map(|it| it as f32);
    number.float().or_else(whole).unwrap_or(f32::NAN)
}

impl Vocabulary {
    /// Reads what `metadata` says. Absent keys are no error here.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, WrongType> {
        let texts = |key: &str| metadata.texts(key).map(Option::<&Texts>::cloned);
        let text = |key: &str| metadata.text(key).map(|it| it.map(str::to_owned));
        let whole = |number: Scalar| number.signed().and_then(|it| i32::try_from(it).ok());
        let types = metadata.numbers("tokenizer.ggml.token_type")?;
        let scores = metadata.numbers("tokenizer.ggml.scores")?;
        Ok(Self {
            model: text("tokenizer.ggml.model")?.unwrap_or_default(),
            pre: text("tokenizer.ggml.pre")?,
            tokens: texts("tokenizer.ggml.tokens")?.unwrap_or_default(),
            types: types.map_or_else(Vec::new, |them| {
                them.iter().map(|it| whole(it).unwrap_or(0)).collect()
            }),
            scores: scores.map_or_else(Vec::new, |them| them.iter().map(score).collect()),
            merges: texts("tokenizer.ggml.merges")?.unwrap_or_default(),
            add_space_prefix: metadata.flag("tokenizer.ggml.add_space_prefix")?,
            add_bos: metadata.flag("tokenizer.ggml.add_bos_token")?,
            add_eos: metadata.flag("tokenizer.ggml.add_eos_token")?,
            named: NamedTokens::from_metadata(metadata)?,
            model_name: text("general.name")?.unwrap_or_default(),
        })
    }

    /// Refuses what breaks a limit or does not fit together.
    pub(super) fn check(&self) -> Result<(), VocabularyError> {
        let tokens = self.tokens.count();
        if tokens == 0 {
            return Err(VocabularyError::NoTokens);
        }
        for (what, count, max) in [
            ("tokens", tokens, TOKENS_MAX),
            ("merges", self.merges.count(), MERGES_MAX),
            ("bytes of tokens", self.tokens.bytes(), VOCABULARY_BYTES_MAX),
            ("bytes of merges", self.merges.bytes(), VOCABULARY_BYTES_MAX),
        ] {
            if count > max {
                return Err(VocabularyError::TooMany { what, count, max });
            }
        }
        for (what, count) in [("types", self.types.len()), ("scores", self.scores.len())] {
            if count > 0 && count < tokens {
                return Err(VocabularyError::TooFew {
                    what,
                    count,
                    tokens,
                });
            }
        }
        let long = self.tokens.iter().map(<[u8]>::len).enumerate();
        if let Some((id, bytes)) = long.into_iter().find(|(_, it)| *it > TOKEN_BYTES_MAX) {
            return Err(VocabularyError::TokenTooLong { id, bytes });
        }
        match self.scores.iter().position(|score| score.is_nan()) {
            Some(id) => Err(VocabularyError::ScoreNotANumber { id }),
            None => Ok(()),
        }
    }
}
