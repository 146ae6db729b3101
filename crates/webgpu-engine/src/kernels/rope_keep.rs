//! Queries and keys are normed where the model does so and turned by their position; keys and values are kept.

use crate::gpu::{Abilities, Access, Source};
use crate::model::{CacheType, Pairs};

/// Bindings: queries, keys and values of each token, one after another, `heads + 2 · kv_heads` heads (written: queries
/// are turned in place); with head norms the weights of the queries' and of the keys'; the turns
/// ([`crate::model::Turns::table`] of the step's tokens); kept keys; kept values; the step.
///
/// What is kept lies `[slot][head][number]`, slot = position modulo `kept_tokens`, two 16-bit floats in a word or a 32-bit
/// float.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeKeep {
    /// What it is called in messages.
    pub label: String,
    /// Heads of queries.
    pub heads: u32,
    /// Heads of keys, and of values.
    pub kv_heads: u32,
    /// Numbers of a head, a multiple of 4.
    pub head_size: u32,
    /// Which two numbers of a head turn together.
    pub pairs: Pairs,
    /// How many numbers of a head turn; even.
    pub rope_dimensions: u32,
    /// Whether each head of queries and keys has a norm (Qwen 3, Gemma 3).
    pub has_head_norms: bool,
    /// What keeps its root from zero.
    pub epsilon: f32,
    /// Tokens that the layer keeps.
    pub kept_tokens: u32,
    /// How they are kept.
    pub cache: CacheType,
}

impl RopeKeep {
    /// Its text for a device.
    pub fn source(&self, _abilities: &Abilities) -> Source {
        Source {
            label: self.label.clone(),
            wgsl: String::new(),
            storage: vec![Access::Write],
        }
    }

    /// Workgroups for so many tokens.
    pub const fn groups(&self, tokens: u32) -> [u32; 3] {
        [self.heads + 2 * self.kv_heads, tokens, 1]
    }
}
