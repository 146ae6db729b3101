//! A model's shape out of a GGUF file's header: what its metadata and its list of tensors mean for memory. The header
//! itself is read by the crate `gguf`, whose limits hold; nothing of the weights is read.

mod encoder;
mod tensors;

use std::borrow::Cow;
use std::io::{self, Read};

use catalog::{Shape, Window};
use gguf::{Metadata, Numbers, Parser, Progress, Scalar, Value};

pub use encoder::{Encoder, read_encoder};
pub use tensors::{Matrices, Matrix};

/// Headers are mostly vocabulary: some megabytes, in as many pieces.
const PIECE_BYTES: u64 = 1 << 20;

/// What the name of an architecture is under.
const ARCHITECTURE: &str = "general.architecture";

/// The vocabulary.
const TOKENS: &str = "tokenizer.ggml.tokens";

/// How conversations are written. Only whether there is one is of interest.
const TEMPLATE: &str = "tokenizer.chat_template";

/// Sizes of states that have no parts, of recurrent and hybrid models.
const STATES: [&str; 3] = [".ssm.state_size", ".wkv.head_size", ".shortconv.l_cache"];

/// Why a header could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The system says so.
    #[error("the model file cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Something else, or not as the format says.
    #[error(transparent)]
    Gguf(#[from] gguf::GgufError),
    /// A number that the shape needs.
    #[error("the GGUF file does not say its `{0}`")]
    Missing(String),
}

impl HeaderError {
    /// The same without text of the file: for logs.
    pub fn without_names(&self) -> Cow<'static, str> {
        match self {
            Self::Read(error) => Cow::Owned(error.to_string()),
            Self::Gguf(error) => error.without_names(),
            Self::Missing(_) => Cow::Borrowed("the GGUF file does not say what its shape needs"),
        }
    }
}

/// What a header says.
#[expect(
    clippy::struct_excessive_bools,
    reason = "abilities come in any combination"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its dimensions.
    pub shape: Shape,
    /// The context that it was trained for.
    pub context_tokens: u32,
    /// What numbers are multiplied with.
    pub matrices: Matrices,
    /// Whether it can be talked to.
    pub has_template: bool,
    /// Whether it says how vectors are made of its tokens.
    pub has_pooling: bool,
    /// Whether every token sees all others, so that none can follow.
    pub is_encoder: bool,
    /// Whether it has states without parts.
    pub has_states: bool,
}

/// Reads the header of a model.
pub fn read(file: impl Read) -> Result<Header, HeaderError> {
    let file = parse(file, &mut parser())?;
    let header = header(&file.metadata)?;
    Ok(Header {
        matrices: tensors::matrices(file.tensors(), header.is_encoder),
        ..header
    })
}

/// A parser that refuses little. What is reckoned here needs no type of weights to be known: llama.cpp may have one
/// that is newer than this.
const fn parser() -> Parser {
    Parser::new(None).lenient()
}

/// All that the header of a file says.
fn parse(mut file: impl Read, parser: &mut Parser) -> Result<gguf::Header, HeaderError> {
    let mut piece = Vec::new();
    loop {
        piece.clear();
        file.by_ref().take(PIECE_BYTES).read_to_end(&mut piece)?;
        match parser.push(&piece)? {
            Progress::Whole { header, .. } => return Ok(*header),
            Progress::More if piece.is_empty() => return Err(gguf::GgufError::Truncated.into()),
            Progress::More => {}
        }
    }
}

/// A number that counts something, or a flag as one; none for fractions and negative ones.
fn natural(scalar: Scalar) -> Option<u64> {
    scalar.flag().map(u64::from).or_else(|| scalar.unsigned())
}

/// The same of a value that is only one number.
fn number(metadata: &Metadata, key: &str) -> Option<u64> {
    match metadata.value(key)? {
        Value::Scalar(scalar) => natural(*scalar),
        Value::Text(_) | Value::Numbers(_) | Value::Texts(_) => None,
    }
}

/// The most that a value says of any layer: a layer that keeps less is rare, and the sum must not be too small.
fn most(metadata: &Metadata, key: &str) -> Option<u64> {
    match metadata.value(key)? {
        Value::Scalar(scalar) => natural(*scalar),
        Value::Numbers(numbers) => {
            let more = |most: Option<u64>, number| Some(most.max(Some(natural(number)?)));
            numbers.iter().try_fold(None, more)?
        }
        Value::Text(_) | Value::Texts(_) => None,
    }
}

/// All but the matrices.
fn header(metadata: &Metadata) -> Result<Header, HeaderError> {
    let missing = |key: &str| HeaderError::Missing(key.to_owned());
    let Ok(Some(architecture)) = metadata.text(ARCHITECTURE) else {
        return Err(missing(ARCHITECTURE));
    };
    let key = |name: &str| format!("{architecture}.{name}");
    let optional =
        |name: &str| most(metadata, &key(name)).and_then(|most| u32::try_from(most).ok());
    let number = |name: &str| {
        optional(name)
            .filter(|number| *number > 0)
            .ok_or_else(|| missing(&key(name)))
    };
    let layers = number("block_count")?;
    let heads = number("attention.head_count")?;
    let embedding = number("embedding_length")?;
    let vocabulary = match metadata.texts(TOKENS) {
        Ok(Some(tokens)) => u32::try_from(tokens.count()).map_err(|_| missing(TOKENS))?,
        Ok(None) | Err(_) => number("vocab_size")?,
    };
    let head_size = embedding / heads;
    let window = optional("attention.sliding_window")
        .filter(|tokens| *tokens > 0)
        .and_then(|tokens| {
            let pattern = metadata.value(&key("attention.sliding_window_pattern"));
            let layers = window_layers(architecture, layers, pattern)?;
            Some(Window { tokens, layers })
        });
    Ok(Header {
        shape: Shape {
            layers,
            kv_heads: optional("attention.head_count_kv").unwrap_or(heads),
            key_size: optional("attention.key_length").unwrap_or(head_size),
            value_size: optional("attention.value_length").unwrap_or(head_size),
            embedding,
            vocabulary,
            window,
        },
        context_tokens: number("context_length")?,
        matrices: Matrices::new(),
        has_template: metadata.value(TEMPLATE).is_some(),
        // As llama.cpp numbers them: 1 to 3 are those that the rig knows.
        has_pooling: optional("pooling_type").is_some_and(|kind| (1..=3).contains(&kind)),
        is_encoder: optional("attention.causal") == Some(0),
        has_states: STATES
            .iter()
            .any(|end| metadata.value(&format!("{architecture}{end}")).is_some()),
    })
}

/// How many layers these flags give a window; none where one of them is no flag, which says nothing.
fn with_window(flags: &Numbers) -> Option<u32> {
    let add = |with: u32, flag| with.checked_add(u32::from(natural(flag)? != 0));
    flags.iter().try_fold(0, add)
}

/// How many layers have the window. Where the file does not say, it is as llama.cpp knows it for the architecture
/// (`llama_model::load_hparams`: every n-th layer is without a window); none for architectures of which it knows
/// nothing.
fn window_layers(architecture: &str, layers: u32, pattern: Option<&Value>) -> Option<u32> {
    if let Some(Value::Numbers(flags)) = pattern
        && flags.count() > 0
        && let Some(with) = with_window(flags)
    {
        return Some(with).filter(|with| *with <= layers);
    }
    let every = match (pattern, architecture) {
        (Some(Value::Scalar(every)), _) => {
            let every = u32::try_from(natural(*every)?).ok();
            every.filter(|every| *every > 0)?
        }
        (_, "gemma3") => 6,
        (_, "gemma2" | "gpt-oss") => 2,
        (_, "cohere2") => 4,
        _ => return None,
    };
    Some(layers - layers / every)
}

#[cfg(test)]
mod tests;
