//! The memory that a model needs, known before anything of it is loaded.

use super::Config;
use crate::gguf::Header;

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
    /// How keys and values are kept.
    pub cache: CacheType,
}

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
    let tokens = (0..config.layers)
        .map(|layer| u64::from(kept_tokens(config, layer, demand)))
        .fold(0, u64::saturating_add);
    product([
        2,
        config.kv_width(),
        demand.cache.bytes(),
        tokens,
        u64::from(demand.sessions),
    ])
}

/// Floats of 32 bits. For each token of a batch: the embedding three times (as it goes on, behind its norm, and what is
/// to be added), queries and what attention makes of them, keys and values, both sides of the feed-forward layer. For
/// each session: its logits.
fn scratch(config: &Config, demand: &Demand) -> u64 {
    let float = 4;
    let per_token = [
        product([3, u64::from(config.embedding)]),
        product([2, config.query_width()]),
        product([2, config.kv_width()]),
        product([2, u64::from(config.feed_forward)]),
    ];
    let per_token = per_token.into_iter().fold(0, u64::saturating_add);
    let logits = product([
        u64::from(config.vocabulary),
        u64::from(demand.sessions),
        float,
    ]);
    product([per_token, u64::from(demand.batch_tokens), float]).saturating_add(logits)
}

fn product<const N: usize>(factors: [u64; N]) -> u64 {
    factors.into_iter().fold(1, u64::saturating_mul)
}
