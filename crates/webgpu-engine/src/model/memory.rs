//! The memory that a model needs, known before anything of it is loaded.

use super::Config;
use gguf::Header;

/// How numbers of keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheType {
    /// In 16 bits, two of them packed into 32.
    F16,
    /// In 32 bits, for comparisons.
    F32,
}

/// What a model is to be loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Tokens that one session can hold.
    pub context_tokens: u32,
    /// Sessions that share the weights.
    pub sessions: u32,
    /// Tokens of a prompt that are read at once.
    pub batch_tokens: u32,
    /// For how many tokens of a step logits can be made at once: 1, but where they are compared with others'.
    pub logit_rows: u32,
    /// How keys and values are kept.
    pub cache: CacheType,
    /// Whether there is room for activations in 8 bits.
    pub has_packed: bool,
}

/// Lengths of what is computed in, in words of 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    /// Tokens that there is room for: the batch, rounded up to what kernels read at once.
    pub tokens: u64,
    /// A vector of the embedding's length for each of them. There are three such buffers.
    pub states: u64,
    /// Queries, keys and values.
    pub qkv: u64,
    /// Queries alone, which is what attention makes of them too.
    pub queries: u64,
    /// The inner side of the feed-forward layer.
    pub gated: u64,
    /// Splits of attention: for each its maximum, its sum and its values.
    pub partials: u64,
    /// States in 8 bits, …
    pub packed_states: u64,
    /// … and the inner side of the feed-forward layer; nothing where activations are not packed.
    pub packed_gated: u64,
    /// Rows of logits.
    pub logits: u64,
    /// Cosines and sines.
    pub turns: u64,
    /// The same for layers with a window.
    pub window_turns: u64,
    /// What sampling keeps for a session: counts, biases, a mask, what was drawn last.
    pub sampling: u64,
    /// What its stages tell each other.
    pub sampling_scratch: u64,
}

/// Kernels read tokens in groups of up to so many, and what lies behind the last is never written.
const TOKENS_STEP: u64 = 64;

/// Tokens of the context that one workgroup of attention reads in decode. Shorter ones keep more of a device busy, longer
/// ones join less.
pub const DECODE_SPLIT_TOKENS: u32 = 128;

/// The fewest of a split in prefill, where tokens alone keep the device busy.
const PREFILL_SPLIT_TOKENS_MIN: u32 = 512;

/// The most splits in prefill: what they give must be kept for each token.
const PREFILL_SPLITS_MAX: u32 = 4;

/// Words of the records of drawn tokens, and of what stages of sampling tell each other beside a row (tests of the
/// kernels hold both against what they ask for).
const SAMPLING_RESULT_WORDS: u64 = 16 * 44;
const SAMPLING_WORDS: u64 = 4096;

/// Words of 32 activations in 8 bits, with what belongs to them (held against the kernels by a test of theirs).
const PACKED_GROUP_WORDS: u64 = 12;

/// The memory of a model, in bytes. Sums that 64 bits do not hold stay at the most that they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// The weights, once.
    pub weights: u64,
    /// Keys and values of all sessions.
    pub cache: u64,
    /// What is computed in: for a batch of tokens, the numbers between the steps of a layer; the logits.
    pub scratch: u64,
}

/// A model that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the model needs {} bytes ({} of weights, {} of keys and values, {} to compute in), and there are {room}",
    need.total(), need.weights, need.cache, need.scratch
)]
pub struct TooLarge {
    /// What it needs.
    pub need: MemoryNeed,
    /// What there is, in bytes.
    pub room: u64,
}

impl CacheType {
    /// Bytes of a number.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// Tokens whose keys and values a layer keeps for a session. One with a window needs, beside the tokens that it sees,
/// room for a batch: its first token still sees the whole window when its last is written.
pub fn kept_tokens(config: &Config, layer: u32, demand: &Demand) -> u32 {
    match &config.window {
        Some(window) if config.has_window(layer) => window
            .tokens
            .saturating_add(demand.batch_tokens)
            .min(demand.context_tokens),
        Some(_) | None => demand.context_tokens,
    }
}

/// Tokens of the context that one workgroup of attention reads in prefill.
pub fn prefill_split_tokens(demand: &Demand) -> u32 {
    let split = demand.context_tokens.div_ceil(PREFILL_SPLITS_MAX);
    split.max(PREFILL_SPLIT_TOKENS_MIN)
}

/// Bytes of the keys of a layer, and as many of its values, for one session.
pub fn kept_bytes(config: &Config, layer: u32, demand: &Demand) -> u64 {
    product([
        config.kv_width(),
        demand.cache.bytes(),
        u64::from(kept_tokens(config, layer, demand)),
    ])
}

impl Lengths {
    /// Of a model's steps.
    pub fn of(config: &Config, demand: &Demand) -> Self {
        let tokens = u64::from(demand.batch_tokens).next_multiple_of(TOKENS_STEP);
        let of = |width: u64| tokens.saturating_mul(width);
        let context = demand.context_tokens;
        let splits = |split: u32, tokens: u32| {
            let head = u64::from(config.head_size) + 4;
            let splits = u64::from(context.div_ceil(split).max(1));
            product([splits, u64::from(config.heads), u64::from(tokens), head])
        };
        let packed = |width: u32| {
            if demand.has_packed {
                of(u64::from(width.div_ceil(32)) * PACKED_GROUP_WORDS)
            } else {
                0
            }
        };
        let turns = of(u64::from(config.rope.dimensions));
        let vocabulary = u64::from(config.vocabulary);
        Self {
            tokens,
            states: of(u64::from(config.embedding)),
            qkv: of(config
                .query_width()
                .saturating_add(config.kv_width().saturating_mul(2))),
            queries: of(config.query_width()),
            gated: of(u64::from(config.feed_forward)),
            partials: splits(DECODE_SPLIT_TOKENS, 1)
                .max(splits(prefill_split_tokens(demand), demand.batch_tokens)),
            packed_states: packed(config.embedding),
            packed_gated: packed(config.feed_forward),
            logits: product([u64::from(config.vocabulary), u64::from(demand.logit_rows)]),
            turns,
            window_turns: config.window.as_ref().map_or(1, |_| turns),
            sampling: product([2, vocabulary])
                .saturating_add(vocabulary.div_ceil(32))
                .saturating_add(SAMPLING_RESULT_WORDS),
            sampling_scratch: product([2, vocabulary]).saturating_add(SAMPLING_WORDS),
        }
    }
}

/// The largest buffer beside those of the weights: what it is for, and its bytes. A kernel must be lent it as a whole.
pub fn largest_buffer(config: &Config, demand: &Demand) -> (&'static str, u64) {
    let lengths = Lengths::of(config, demand);
    let words = [
        ("states of a batch", lengths.states),
        ("queries, keys and values of a batch", lengths.qkv),
        ("feed-forward layer of a batch", lengths.gated),
        ("splits of attention", lengths.partials),
        ("logits", lengths.logits),
        ("scratch of sampling", lengths.sampling_scratch),
    ];
    let bytes = words.map(|(label, words)| (label, words.saturating_mul(4)));
    let kept = (0..config.layers).map(|layer| kept_bytes(config, layer, demand));
    let kept = ("keys of the context in a layer", kept.max().unwrap_or(0));
    let all = bytes.into_iter().chain([kept]);
    all.max_by_key(|(_, bytes)| *bytes).unwrap_or_default()
}

impl MemoryNeed {
    /// What a model needs. Its header must be the one that the config was read from.
    pub fn of(config: &Config, header: &Header, demand: &Demand) -> Self {
        let weights = header.tensors().iter().map(|tensor| tensor.bytes);
        Self {
            weights: weights.fold(0, u64::saturating_add),
            cache: cache(config, demand),
            scratch: scratch(config, demand),
        }
    }

    /// All together.
    pub const fn total(&self) -> u64 {
        self.weights
            .saturating_add(self.cache)
            .saturating_add(self.scratch)
    }

    /// Refuses a model that needs more than there is.
    pub const fn check(self, room: u64) -> Result<(), TooLarge> {
        if self.total() > room {
            return Err(TooLarge { need: self, room });
        }
        Ok(())
    }
}

/// `2 · layers · KV heads · head size · bytes · tokens · sessions`, the tokens as each layer keeps them.
fn cache(config: &Config, demand: &Demand) -> u64 {
    let layers = (0..config.layers).map(|layer| kept_bytes(config, layer, demand));
    let session = layers.fold(0, u64::saturating_add).saturating_mul(2);
    session.saturating_mul(u64::from(demand.sessions))
}

/// Words of 32 bits: what all sessions compute in, and what sampling keeps for each.
fn scratch(config: &Config, demand: &Demand) -> u64 {
    let lengths = Lengths::of(config, demand);
    let words = [
        product([3, lengths.states]),
        lengths.qkv,
        lengths.queries,
        lengths.gated,
        lengths.partials,
        lengths.packed_states,
        lengths.packed_gated,
        lengths.logits,
        lengths.turns,
        lengths.window_turns,
        lengths.sampling_scratch,
        product([
            lengths.tokens.saturating_add(lengths.sampling),
            u64::from(demand.sessions),
        ]),
    ];
    words
        .into_iter()
        .fold(0, u64::saturating_add)
        .saturating_mul(4)
}

fn product<const N: usize>(factors: [u64; N]) -> u64 {
    factors.into_iter().fold(1, u64::saturating_mul)
}
