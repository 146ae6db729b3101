//! A model's shape out of a GGUF file's header. Reads the metadata and the list of tensors, and nothing of the weights.
//!
//! The format is described at <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Everything in the header
//! was written by somebody else: each length has a limit, and what is not understood is an error, never a guess.

mod encoder;
mod tensors;

use std::collections::BTreeMap;
use std::io::{self, Read};

use catalog::{Shape, Window};

pub use encoder::{Encoder, read_encoder};
pub use tensors::{Matrices, Matrix};

/// Metadata of real models has some dozens of entries.
const ENTRIES_MAX: u64 = 4096;

/// The longest texts are chat templates, of some ten thousand bytes. They are passed over.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// The longest arrays are vocabularies; the largest known has 262,144 tokens.
const ARRAY_MAX: u64 = 4 << 20;

/// Arrays that are kept have one number per layer.
const KEPT_MAX: u64 = 1024;

/// The longest key of interest has some sixty bytes, and the longest name of an architecture some twenty.
const KEPT_TEXT_BYTES_MAX: usize = 128;

/// Entries of interest: a dozen for one architecture, and files with an encoder have two.
const KEPT_ENTRIES_MAX: usize = 64;

/// What the name of an architecture is under.
const ARCHITECTURE: &str = "general.architecture";

/// The vocabulary.
const TOKENS: &str = "tokenizer.ggml.tokens";

/// How conversations are written. Only whether there is one is of interest.
const TEMPLATE: &str = "tokenizer.chat_template";

/// Sizes of states that have no parts, of recurrent and hybrid models.
const STATES: [&str; 3] = [".ssm.state_size", ".wkv.head_size", ".shortconv.l_cache"];

/// What an architecture's entries of interest end in.
const WANTED: [&str; 17] = [
    ".block_count",
    ".attention.head_count",
    ".attention.head_count_kv",
    ".attention.key_length",
    ".attention.value_length",
    ".attention.sliding_window",
    ".attention.sliding_window_pattern",
    ".embedding_length",
    ".vocab_size",
    ".context_length",
    ".attention.causal",
    ".pooling_type",
    ".vision.image_size",
    ".vision.patch_size",
    ".vision.feed_forward_length",
    ".vision.projection_dim",
    ".projector_type",
];

/// Nesting that nobody uses.
const DEPTH_MAX: u32 = 4;

/// Why a header could not be read.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The system says so, or the file ends too early.
    #[error("the model file cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Something else.
    #[error("this is not a GGUF file")]
    NotGguf,
    /// Not as the format says, or beyond every real model.
    #[error("the header of the GGUF file is damaged")]
    Damaged,
    /// A number that the shape needs.
    #[error("the GGUF file does not say its `{0}`")]
    Missing(String),
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
pub fn read(file: impl Read) -> Result<Header, GgufError> {
    let mut source = Source::new(file);
    let (metadata, tensors) = source.metadata()?;
    let mut header = header(&metadata)?;
    header.matrices = tensors::read(&mut source, tensors, header.is_encoder)?;
    Ok(header)
}

/// A value, as far as it is of interest.
enum Value {
    Number(u64),
    Numbers(Vec<u64>),
    Text(String),
    Count(u64),
}

type Metadata = BTreeMap<String, Value>;

/// All but the matrices.
fn header(metadata: &Metadata) -> Result<Header, GgufError> {
    let missing = |key: &str| GgufError::Missing(key.to_owned());
    let Some(Value::Text(architecture)) = metadata.get(ARCHITECTURE) else {
        return Err(missing(ARCHITECTURE));
    };
    let key = |name: &str| format!("{architecture}.{name}");
    let optional = |name: &str| match metadata.get(&key(name))? {
        Value::Number(number) => u32::try_from(*number).ok(),
        // One per layer: the most counts, since a layer that keeps less is rare and the sum must not be too small.
        Value::Numbers(numbers) => numbers
            .iter()
            .max()
            .and_then(|most| u32::try_from(*most).ok()),
        Value::Text(_) | Value::Count(_) => None,
    };
    let number = |name: &str| {
        optional(name)
            .filter(|number| *number > 0)
            .ok_or_else(|| missing(&key(name)))
    };
    let layers = number("block_count")?;
    let heads = number("attention.head_count")?;
    let embedding = number("embedding_length")?;
    let vocabulary = match metadata.get(TOKENS) {
        Some(Value::Count(count)) => u32::try_from(*count).map_err(|_| GgufError::Damaged)?,
        Some(Value::Numbers(_) | Value::Number(_) | Value::Text(_)) | None => number("vocab_size")?,
    };
    let head_size = embedding / heads;
    let window = optional("attention.sliding_window")
        .filter(|tokens| *tokens > 0)
        .and_then(|tokens| {
            let pattern = metadata.get(&key("attention.sliding_window_pattern"));
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
        has_template: metadata.contains_key(TEMPLATE),
        // As llama.cpp numbers them: 1 to 3 are those that the rig knows.
        has_pooling: optional("pooling_type").is_some_and(|kind| (1..=3).contains(&kind)),
        is_encoder: optional("attention.causal") == Some(0),
        has_states: STATES
            .iter()
            .any(|end| metadata.contains_key(&format!("{architecture}{end}"))),
    })
}

/// How many layers have the window. Where the file does not say, it is as llama.cpp knows it for the architecture
/// (`llama_model::load_hparams`: every n-th layer is without a window); none for architectures that it knows nothing of.
fn window_layers(architecture: &str, layers: u32, pattern: Option<&Value>) -> Option<u32> {
    if let Some(Value::Numbers(flags)) = pattern {
        let with = flags.iter().filter(|flag| **flag != 0).count();
        return u32::try_from(with).ok().filter(|with| *with <= layers);
    }
    let every = match (pattern, architecture) {
        (Some(Value::Number(every)), _) => u32::try_from(*every).ok().filter(|every| *every > 0)?,
        (_, "gemma3") => 6,
        (_, "gemma2" | "gpt-oss") => 2,
        (_, "cohere2") => 4,
        _ => return None,
    };
    Some(layers - layers / every)
}

/// Whether an entry is kept. Its architecture may be named behind it.
fn is_wanted(key: &str) -> bool {
    [ARCHITECTURE, TOKENS, TEMPLATE].contains(&key)
        || WANTED.iter().chain(&STATES).any(|end| key.ends_with(end))
}

struct Source<R>(R);

impl<R: Read> Source<io::BufReader<R>> {
    fn new(file: R) -> Self {
        Self(io::BufReader::with_capacity(1 << 20, file))
    }
}

impl<R: Read> Source<R> {
    /// The metadata, and how many tensors follow it.
    fn metadata(&mut self) -> Result<(Metadata, u64), GgufError> {
        if &self.bytes::<4>()? != b"GGUF" {
            return Err(GgufError::NotGguf);
        }
        // Version 1 had shorter lengths; nobody writes it any more, and llama.cpp reads it no longer.
        let version = u32::from_le_bytes(self.bytes()?);
        if !(2..=3).contains(&version) {
            return Err(GgufError::NotGguf);
        }
        let tensors = self.length(tensors::TENSORS_MAX)?;
        let entries = self.length(ENTRIES_MAX)?;
        let mut metadata = Metadata::new();
        for _ in 0..entries {
            let key = self.text()?.filter(|key| is_wanted(key));
            let kind = u32::from_le_bytes(self.bytes()?);
            let value = self.value(kind, 0)?;
            let Some(key) = key else {
                continue;
            };
            if let Some(value) = value {
                metadata.insert(key, value);
            } else if key == TEMPLATE {
                // Too long to be kept, as templates are.
                metadata.insert(key, Value::Count(1));
            }
            if metadata.len() > KEPT_ENTRIES_MAX {
                return Err(GgufError::Damaged);
            }
        }
        Ok((metadata, tensors))
    }

    /// A value of this kind; none where no shape could hold it.
    fn value(&mut self, kind: u32, depth: u32) -> Result<Option<Value>, GgufError> {
        if kind == 8 {
            return Ok(self.text()?.map(Value::Text));
        }
        if kind != 9 {
            return Ok(self.number(kind)?.map(Value::Number));
        }
        let inner = u32::from_le_bytes(self.bytes()?);
        let count = self.length(ARRAY_MAX)?;
        if depth >= DEPTH_MAX {
            return Err(GgufError::Damaged);
        }
        let mut kept = Vec::new();
        for _ in 0..count {
            match self.value(inner, depth + 1)? {
                Some(Value::Number(number)) if count <= KEPT_MAX => kept.push(number),
                _ => {}
            }
        }
        let is_kept = kept.len() as u64 == count && count > 0;
        Ok(Some(if is_kept {
            Value::Numbers(kept)
        } else {
            Value::Count(count)
        }))
    }

    /// A number that counts something; none for fractions and negative ones.
    fn number(&mut self, kind: u32) -> Result<Option<u64>, GgufError> {
        Ok(match kind {
            0 | 7 => Some(u64::from(u8::from_le_bytes(self.bytes()?))),
            1 => u64::try_from(i8::from_le_bytes(self.bytes()?)).ok(),
            2 => Some(u64::from(u16::from_le_bytes(self.bytes()?))),
            3 => u64::try_from(i16::from_le_bytes(self.bytes()?)).ok(),
            4 => Some(u64::from(u32::from_le_bytes(self.bytes()?))),
            5 => u64::try_from(i32::from_le_bytes(self.bytes()?)).ok(),
            6 => {
                self.bytes::<4>()?;
                None
            }
            10 => Some(u64::from_le_bytes(self.bytes()?)),
            11 => u64::try_from(i64::from_le_bytes(self.bytes()?)).ok(),
            12 => {
                self.bytes::<8>()?;
                None
            }
            _ => return Err(GgufError::Damaged),
        })
    }

    /// A short text; longer ones are passed over.
    fn text(&mut self) -> Result<Option<String>, GgufError> {
        let length = self.length(TEXT_BYTES_MAX)?;
        let mut source = (&mut self.0).take(length);
        let mut text = Vec::new();
        let is_short = length <= KEPT_TEXT_BYTES_MAX as u64;
        let read = if is_short {
            source.read_to_end(&mut text)? as u64
        } else {
            io::copy(&mut source, &mut io::sink())?
        };
        if read != length {
            return Err(GgufError::Damaged);
        }
        // Tokens need not be UTF-8; keys are.
        Ok(is_short.then(|| String::from_utf8_lossy(&text).into_owned()))
    }

    fn length(&mut self, max: u64) -> Result<u64, GgufError> {
        let length = u64::from_le_bytes(self.bytes()?);
        if length > max {
            return Err(GgufError::Damaged);
        }
        Ok(length)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                GgufError::Damaged
            } else {
                GgufError::Read(error)
            }
        })?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
