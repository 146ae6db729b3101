//! Small language models in the shapes that `webgpu-engine` runs, with weights of any type. **Seeded weights, not trained
//! models**: any engine must compute the same logits from them.

use super::Draw;
use super::language::{Marks, vocabulary};
use crate::{GgufWriter, ShapeMismatch, Value};

/// A family of models that compute alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama and Mistral, whose files are alike: neighbours turn together, a matrix of its own for logits.
    Llama,
    /// Biases on queries, keys and values.
    Qwen2,
    /// Norms of heads, whose size is not their share of the width.
    Qwen3,
    /// Norms behind each part, too, a sliding window on every other layer, GELU.
    Gemma3,
}

/// A small model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Small {
    /// Of which family.
    pub family: Family,
    /// Numbers per token; a multiple of 64, and of what blocks of the types of weights need.
    pub width: u32,
    /// Where the weights come from.
    pub seed: u64,
}

/// How a matrix is to be stored: its weights → ggml's number of the type, and what the file has.
pub type Encode<'e> = &'e dyn Fn(&[f32]) -> (u32, Vec<u8>);

const HEADS: u32 = 4;
/// Heads of keys and values.
const SHARED_HEADS: u32 = 2;
const LAYERS: u32 = 2;
/// Numbers of the largest heads.
const HEAD_SIZE_MAX: u32 = 256;

impl Family {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Llama, Self::Qwen2, Self::Qwen3, Self::Gemma3];

    /// As files name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3",
        }
    }

    const fn has_head_norms(self) -> bool {
        match self {
            Self::Llama | Self::Qwen2 => false,
            Self::Qwen3 | Self::Gemma3 => true,
        }
    }
}

impl Small {
    /// Tokens that a layer with a window sees.
    pub const WINDOW_TOKENS: u32 = 8;

    /// Tokens that it was made for.
    pub const CONTEXT_TOKENS: u32 = 1024;

    /// Numbers of a head: at most as many as heads of real models have.
    pub const fn head_size(&self) -> u32 {
        let size = match self.family {
            Family::Llama | Family::Qwen2 => self.width / HEADS,
            Family::Qwen3 | Family::Gemma3 => self.width / 2,
        };
        if size > HEAD_SIZE_MAX {
            HEAD_SIZE_MAX
        } else {
            size
        }
    }

    /// The file's content.
    pub fn write(&self, encode: Encode<'_>) -> Result<GgufWriter, ShapeMismatch> {
        let mut writer = GgufWriter::default();
        self.metadata(&mut writer);
        let tokens = vocabulary(&mut writer, &Marks::CHATML);
        let words = u64::try_from(tokens.len()).unwrap_or(u64::MAX);
        let mut weights = Weights {
            writer,
            draw: Draw(self.seed),
            encode,
        };
        let width = u64::from(self.width);
        weights.matrix("token_embd.weight", [width, words], 1.0);
        weights.vector("output_norm.weight", width, 1.0)?;
        for layer in 0..LAYERS {
            self.layer(layer, &mut weights)?;
        }
        if self.family == Family::Llama {
            weights.matrix("output.weight", [width, words], 0.3);
        }
        Ok(weights.writer)
    }

    fn metadata(&self, writer: &mut GgufWriter) {
        let name = self.family.name();
        let text = |text: &str| Value::Text(text.to_owned());
        writer.set("general.architecture", text(name));
        writer.set("general.name", text("seeded weights, not a trained model"));
        for (key, value) in [
            ("context_length", Self::CONTEXT_TOKENS),
            ("embedding_length", self.width),
            ("feed_forward_length", 2 * self.width),
            ("block_count", LAYERS),
            ("attention.head_count", HEADS),
            ("attention.head_count_kv", SHARED_HEADS),
            ("attention.key_length", self.head_size()),
            ("attention.value_length", self.head_size()),
        ] {
            writer.set(&format!("{name}.{key}"), Value::U32(value));
        }
        let epsilon = format!("{name}.attention.layer_norm_rms_epsilon");
        writer.set(&epsilon, Value::F32(1e-6));
        if self.family == Family::Gemma3 {
            let window = Value::U32(Self::WINDOW_TOKENS);
            writer.set("gemma3.attention.sliding_window", window);
            writer.set("gemma3.attention.sliding_window_pattern", Value::U32(2));
            writer.set("gemma3.rope.freq_base", Value::F32(1e6));
        }
    }

    fn layer(&self, layer: u32, weights: &mut Weights<'_>) -> Result<(), ShapeMismatch> {
        let [width, head] = [self.width, self.head_size()].map(u64::from);
        let hidden = 2 * width;
        let (queries, shared) = (head * u64::from(HEADS), head * u64::from(SHARED_HEADS));
        let name = |part: &str| format!("blk.{layer}.{part}");
        for (part, shape, spread) in [
            ("attn_q.weight", [width, queries], 0.2),
            ("attn_k.weight", [width, shared], 0.2),
            ("attn_v.weight", [width, shared], 0.6),
            ("attn_output.weight", [queries, width], 0.4),
            ("ffn_gate.weight", [width, hidden], 0.2),
            ("ffn_up.weight", [width, hidden], 0.2),
            ("ffn_down.weight", [hidden, width], 0.1),
        ] {
            weights.matrix(&name(part), shape, spread);
        }
        weights.vector(&name("attn_norm.weight"), width, 1.0)?;
        weights.vector(&name("ffn_norm.weight"), width, 1.0)?;
        if self.family == Family::Qwen2 {
            weights.vector(&name("attn_q.bias"), queries, 0.0)?;
            weights.vector(&name("attn_k.bias"), shared, 0.0)?;
            weights.vector(&name("attn_v.bias"), shared, 0.0)?;
        }
        if self.family.has_head_norms() {
            weights.vector(&name("attn_q_norm.weight"), head, 1.0)?;
            weights.vector(&name("attn_k_norm.weight"), head, 1.0)?;
        }
        if self.family == Family::Gemma3 {
            weights.vector(&name("post_attention_norm.weight"), width, 1.0)?;
            weights.vector(&name("post_ffw_norm.weight"), width, 1.0)?;
        }
        Ok(())
    }
}

/// A file under construction, and where its numbers come from.
struct Weights<'e> {
    writer: GgufWriter,
    draw: Draw,
    encode: Encode<'e>,
}

impl Weights<'_> {
    fn matrix(&mut self, name: &str, shape: [u64; 2], spread: f32) {
        let values = self.draw.values(shape.iter().product(), 0.0, spread);
        let (kind, bytes) = (self.encode)(&values);
        self.writer.tensor_bytes(name, &shape, kind, bytes);
    }

    fn vector(&mut self, name: &str, length: u64, around: f32) -> Result<(), ShapeMismatch> {
        let values = self.draw.values(length, around, 0.2);
        self.writer.tensor(name, &[length], values)
    }
}
