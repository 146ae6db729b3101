//! How positions turn queries and keys: rotary embeddings (Su et al., `RoFormer`), and their scaling to longer contexts.

use super::keys::Keys;
use super::{Architecture, Refusal};

/// Which two numbers of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// Neighbours: 0 and 1, 2 and 3, … (ggml's `NORMAL`).
    Neighbours,
    /// The first half with the second: 0 and n/2, 1 and n/2 + 1, … (ggml's `NEOX`).
    Halves,
}

/// What stretches positions to a longer context than the model was first trained for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Nothing.
    None,
    /// Every position is divided by this.
    Linear(f32),
    /// Slow turns are divided, quick ones are not (Peng et al., `YaRN`).
    Yarn {
        /// By how much.
        factor: f32,
        /// The context of the first training, in tokens.
        original_context: u32,
        /// Turns over that context from which on nothing is divided …
        beta_fast: f32,
        /// … and up to which all is.
        beta_slow: f32,
        /// What queries and keys are multiplied with while they are turned.
        magnitude: f32,
    },
}

/// How positions turn queries and keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Which numbers turn together.
    pub pairs: Pairs,
    /// How many numbers of a head turn; the others stay as they are.
    pub dimensions: u32,
    /// Pair `i` turns by `position · base^(-2i / dimensions)`.
    pub base: f32,
    /// The same for layers with a sliding window, which are never scaled.
    pub window_base: f32,
    /// Stretching, of layers without a window.
    pub scaling: RopeScaling,
    /// Whether the file has a tensor with a divisor for each pair (Llama 3.1 and later).
    pub has_factors: bool,
}

/// llama.cpp's, where the file does not say.
const BASE: f32 = 10_000.0;
/// The same; only architectures that are not known here may say others.
const BETA_FAST: f32 = 32.0;
const BETA_SLOW: f32 = 1.0;

impl Rope {
    /// What the metadata says; factors are the index's to know.
    pub(super) fn read(
        keys: &Keys<'_>,
        architecture: Architecture,
        head_size: u32,
        context_tokens: u32,
    ) -> Result<Self, Refusal> {
        let dimensions = keys.count_or("rope.dimension_count", head_size)?;
        if dimensions > head_size || !dimensions.is_multiple_of(2) {
            return Err(keys.impossible("rope.dimension_count"));
        }
        let (pairs, is_whole) = match architecture {
            Architecture::Llama => (Pairs::Neighbours, true),
            Architecture::Qwen2 | Architecture::Qwen3 => (Pairs::Halves, true),
            Architecture::Gemma3 => (Pairs::Halves, false),
        };
        if is_whole && dimensions != head_size {
            return Err(Refusal::Unsupported("heads that are turned in part"));
        }
        let window_base = match architecture {
            Architecture::Gemma3 => keys.positive("rope.freq_base_swa")?,
            Architecture::Llama | Architecture::Qwen2 | Architecture::Qwen3 => None,
        };
        Ok(Self {
            pairs,
            dimensions,
            base: keys.positive("rope.freq_base")?.unwrap_or(BASE),
            window_base: window_base.unwrap_or(BASE),
            scaling: RopeScaling::read(keys, context_tokens)?,
            has_factors: false,
        })
    }
}

impl RopeScaling {
    fn read(keys: &Keys<'_>, context_tokens: u32) -> Result<Self, Refusal> {
        // The older name of the factor is still in old files.
        let factor = match keys.optional("rope.scaling.factor")? {
            None => keys.optional("rope.scale_linear")?,
            factor => factor,
        };
        let factor = factor.unwrap_or(1.0);
        let key = keys.key("rope.scaling.type");
        let kind = keys.metadata.text(&key)?;
        // What queries and keys are multiplied with, beside what YaRN does. Other kinds would need it, too.
        let magnitude = keys.optional("rope.scaling.attn_factor")?.unwrap_or(1.0);
        match kind.unwrap_or("linear") {
            "yarn" => {}
            "none" | "linear" if magnitude.to_bits() != 1.0f32.to_bits() => {
                return Err(Refusal::Unsupported("a factor of its own on rotated heads"));
            }
            "none" => return Ok(Self::None),
            "linear" if factor.to_bits() == 1.0f32.to_bits() => return Ok(Self::None),
            "linear" => return Ok(Self::Linear(factor)),
            "longrope" => return Err(Refusal::Unsupported("rotary scaling of the kind LongRoPE")),
            _ => return Err(Refusal::Impossible(key)),
        }
        let original = keys.count_or("rope.scaling.original_context_length", context_tokens)?;
        Ok(Self::Yarn {
            factor,
            original_context: original,
            beta_fast: BETA_FAST,
            beta_slow: BETA_SLOW,
            magnitude: magnitude * (1.0 + 0.1 * factor.max(1.0).ln()),
        })
    }
}
