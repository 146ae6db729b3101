//! The hyper-parameters of a model, every one of them explicit.

mod check;

use super::keys::Keys;
use super::{ModelTensor, Refusal, Rope};
use gguf::{Header, Value};

/// llama.cpp's own limit. Checked before anything is done for each of them.
const LAYERS_MAX: u32 = 512;

/// Of an architecture's name in a sentence: the longest known has some twenty letters, the file may have anything.
const NAME_CHARACTERS_MAX: usize = 64;

/// Layers of the one Gemma 3 (27B) whose attention is scaled by other heads than it has.
const GEMMA3_27B_LAYERS: u32 = 62;

/// In Gemma 3, one layer of so many sees everything.
const GEMMA3_PATTERN: u32 = 6;

/// A family of models that compute alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 1 to 3, `SmolLM`, and Mistral, whose files say `llama`. As in llama.cpp, a sliding window that such a file
    /// speaks of is not used.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3 without experts.
    Qwen3,
    /// Gemma 3, its text part.
    Gemma3,
}

/// What stands between the two matrices of a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU, in the form with the hyperbolic tangent.
    Gelu,
}

/// Layers that see only the last tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// How many tokens such a layer sees, the one that it computes among them.
    pub tokens: u32,
    /// For each layer, whether it is one of them.
    pub layers: Vec<bool>,
}

/// Which biases the model adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Biases {
    /// To queries, keys and values.
    pub query_key_value: bool,
    /// To what attention gives.
    pub attention_output: bool,
}

/// How a model computes.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which family it is of.
    pub architecture: Architecture,
    /// How many layers.
    pub layers: u32,
    /// Numbers per token between layers.
    pub embedding: u32,
    /// Numbers per token inside of a feed-forward layer.
    pub feed_forward: u32,
    /// Heads of queries.
    pub heads: u32,
    /// Heads of keys and values; each serves as many heads of queries as the others.
    pub kv_heads: u32,
    /// Numbers of a head, of queries, keys and values alike.
    pub head_size: u32,
    /// Tokens that there are.
    pub vocabulary: u32,
    /// Tokens that the model was trained to see at once.
    pub context_tokens: u32,
    /// What is added to the mean square in norms.
    pub norm_epsilon: f32,
    /// How positions count.
    pub rope: Rope,
    /// Layers that see only the last tokens.
    pub window: Option<Window>,
    /// What the product of query and key is multiplied with.
    pub attention_scale: f32,
    /// Such products `x` become `cap · tanh(x / cap)`.
    pub attention_soft_cap: Option<f32>,
    /// The same for logits.
    pub final_soft_cap: Option<f32>,
    /// What a token's embedding is multiplied with.
    pub embedding_scale: f32,
    /// Of feed-forward layers.
    pub activation: Activation,
    /// Whether each head of queries and of keys goes through a norm before it is turned.
    pub has_head_norms: bool,
    /// Whether attention and feed-forward go through a norm again before they are added.
    pub has_post_norms: bool,
    /// What is added to products.
    pub biases: Biases,
    /// Whether logits are made by the matrix of the embeddings.
    pub has_tied_output: bool,
}

impl Architecture {
    /// As files name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma3 => "gemma3",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        let mut all = [Self::Llama, Self::Qwen2, Self::Qwen3, Self::Gemma3].into_iter();
        all.find(|architecture| architecture.name() == name)
    }
}

impl Config {
    /// What a header means, or why the model cannot be run. Every tensor has been checked then.
    pub fn read(header: &Header) -> Result<Self, Refusal> {
        let key = "general.architecture";
        let name = header.metadata.text(key)?;
        let name = name.ok_or_else(|| Refusal::Missing(key.to_owned()))?;
        let Some(architecture) = Architecture::from_name(name) else {
            let name = name.chars().take(NAME_CHARACTERS_MAX).collect();
            return Err(Refusal::Architecture(name));
        };
        let keys = Keys {
            metadata: &header.metadata,
            architecture: architecture.name(),
        };
        refuse_unsupported(&keys)?;
        let config = Self::from_keys(&keys, header, architecture)?;
        config.check(header)?;
        Ok(config)
    }

    fn from_keys(
        keys: &Keys<'_>,
        header: &Header,
        architecture: Architecture,
    ) -> Result<Self, Refusal> {
        let layers = keys.needed("block_count")?;
        if layers > LAYERS_MAX {
            return Err(keys.impossible("block_count"));
        }
        let embedding = keys.needed("embedding_length")?;
        let (heads, kv_heads, head_size) = heads(keys, embedding)?;
        let context_tokens = keys.needed("context_length")?;
        let has = |name: &str| header.tensor(name).is_some();
        let has_factors = has(&ModelTensor::RopeFactors.name());
        let rope = Rope {
            // llama.cpp knows them for no other of these.
            has_factors: has_factors && architecture == Architecture::Llama,
            ..Rope::read(keys, architecture, head_size, context_tokens)?
        };
        let is_gemma = architecture == Architecture::Gemma3;
        let epsilon = "attention.layer_norm_rms_epsilon";
        let epsilon = keys
            .positive(epsilon)?
            .ok_or_else(|| Refusal::Missing(keys.key(epsilon)))?;
        let gemma = |name| {
            if is_gemma {
                keys.optional(name)
            } else {
                Ok(None)
            }
        };
        Ok(Self {
            architecture,
            layers,
            embedding,
            feed_forward: keys.needed("feed_forward_length")?,
            heads,
            kv_heads,
            head_size,
            vocabulary: vocabulary(keys)?,
            context_tokens,
            norm_epsilon: epsilon,
            rope,
            window: if is_gemma {
                window(keys, layers)?
            } else {
                None
            },
            attention_scale: 1.0
                / if is_gemma && layers == GEMMA3_27B_LAYERS {
                    root(embedding / heads)
                } else {
                    root(head_size)
                },
            attention_soft_cap: gemma("attn_logit_softcapping")?,
            final_soft_cap: gemma("final_logit_softcapping")?,
            embedding_scale: if is_gemma { root(embedding) } else { 1.0 },
            activation: if is_gemma {
                Activation::Gelu
            } else {
                Activation::Silu
            },
            has_head_norms: matches!(architecture, Architecture::Qwen3 | Architecture::Gemma3),
            has_post_norms: is_gemma,
            biases: Biases {
                query_key_value: has("blk.0.attn_q.bias"),
                attention_output: has("blk.0.attn_output.bias"),
            },
            has_tied_output: !has(&ModelTensor::Output.name()),
        })
    }

    /// Whether a layer sees only the last tokens.
    pub fn has_window(&self, layer: u32) -> bool {
        let window = self.window.as_ref();
        let layer = usize::try_from(layer).ok();
        let flag = window
            .zip(layer)
            .and_then(|(window, layer)| window.layers.get(layer));
        flag.copied().unwrap_or(false)
    }
}

/// What files of known architectures may have and this engine has not.
fn refuse_unsupported(keys: &Keys<'_>) -> Result<(), Refusal> {
    if keys.metadata.unsigned("split.count")?.unwrap_or(1) > 1 {
        return Err(Refusal::Unsupported("weights in several files"));
    }
    if keys.count("expert_count")?.unwrap_or(0) > 0 {
        return Err(Refusal::Unsupported("experts"));
    }
    if keys.count("nextn_predict_layers")?.unwrap_or(0) > 0 {
        return Err(Refusal::Unsupported("layers that predict further tokens"));
    }
    if keys.metadata.flag(&keys.key("attention.causal"))? == Some(false) {
        return Err(Refusal::Unsupported("attention to what follows"));
    }
    Ok(())
}

/// Heads of queries, heads of keys and values, and numbers of each.
fn heads(keys: &Keys<'_>, embedding: u32) -> Result<(u32, u32, u32), Refusal> {
    let heads = keys.needed("attention.head_count")?;
    let kv_heads = keys.count_or("attention.head_count_kv", heads)?;
    if !heads.is_multiple_of(kv_heads) {
        return Err(keys.impossible("attention.head_count_kv"));
    }
    let head_size = head_size(keys, embedding, heads)?;
    // No tensor has such rows. Every length that is computed from here on has 32 bits.
    if heads.checked_mul(head_size).is_none() {
        return Err(keys.impossible("attention.head_count"));
    }
    Ok((heads, kv_heads, head_size))
}

/// Numbers of a head.
fn head_size(keys: &Keys<'_>, embedding: u32, heads: u32) -> Result<u32, Refusal> {
    let default = embedding / heads;
    let key = keys.count_or("attention.key_length", default)?;
    if key == 0 {
        return Err(keys.impossible("attention.head_count"));
    }
    for name in [
        "attention.value_length",
        "attention.key_length_swa",
        "attention.value_length_swa",
    ] {
        // Where the file does not say, layers with a window are as the others; values are as the embedding's share.
        let default = if name.ends_with("_swa") { key } else { default };
        if keys.count_or(name, default)? != key {
            return Err(Refusal::Unsupported("heads of different sizes"));
        }
    }
    Ok(key)
}

/// Tokens that there are: those of the tokenizer, or as many as the file says.
fn vocabulary(keys: &Keys<'_>) -> Result<u32, Refusal> {
    let tokens = "tokenizer.ggml.tokens";
    let Some(texts) = keys.metadata.texts(tokens)? else {
        return keys.needed("vocab_size");
    };
    match u32::try_from(texts.count()) {
        Ok(count) if count > 0 => Ok(count),
        Ok(_) | Err(_) => Err(Refusal::Impossible(tokens.to_owned())),
    }
}

/// Gemma 3's window: a list says which layers have it, or a number after how many of them one has not.
fn window(keys: &Keys<'_>, layers: u32) -> Result<Option<Window>, Refusal> {
    let Some(tokens) = keys.count("attention.sliding_window")? else {
        return Ok(None);
    };
    if tokens == 0 {
        return Ok(None);
    }
    let name = "attention.sliding_window_pattern";
    let key = keys.key(name);
    let flags: Vec<bool> = if let Some(Value::Numbers(flags)) = keys.metadata.value(&key) {
        let is_set = |flag: gguf::Scalar| match flag.flag() {
            None => flag.signed().is_some_and(|number| number != 0),
            Some(flag) => flag,
        };
        flags.iter().map(is_set).collect()
    } else {
        let every = keys.count(name)?.unwrap_or(GEMMA3_PATTERN);
        (0..layers)
            .map(|layer| every == 0 || layer % every < every - 1)
            .collect()
    };
    if u32::try_from(flags.len()) != Ok(layers) {
        return Err(Refusal::Impossible(key));
    }
    Ok(Some(Window {
        tokens,
        layers: flags,
    }))
}

/// The square root, in 32 bits as llama.cpp takes it.
#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of heads and embeddings are far below 2²⁴, and llama.cpp rounds alike"
)]
fn root(size: u32) -> f32 {
    (size as f32).sqrt()
}
