//! Queries and keys are normed where the model does so and turned by their position; keys and values are kept.

use super::total::{bindings, total};
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

/// Threads of a head where they gain anything. Each has a pair or a few.
const THREADS: u32 = 64;

/// Of a norm, what a number of a head is multiplied with.
const WEIGHT: &str = "fn weight(head: u32, place: u32, scale: f32) -> f32 {
    if (head < HEADS) {
        return scale * query_weights[place];
    }
    return scale * key_weights[place];
}
";

impl RopeKeep {
    /// Its text for a device.
    pub fn source(&self, abilities: &Abilities) -> Source {
        self.variant(abilities.is_software)
    }

    fn variant(&self, is_software: bool) -> Source {
        let kept = match self.cache {
            CacheType::F16 => "u32",
            CacheType::F32 => "f32",
        };
        let mut storage = vec![("qkv", "f32", Access::Write)];
        if self.has_head_norms {
            storage.push(("query_weights", "f32", Access::Read));
            storage.push(("key_weights", "f32", Access::Read));
        }
        storage.push(("turns", "vec2<f32>", Access::Read));
        storage.push(("keys", kept, Access::Write));
        storage.push(("values", kept, Access::Write));
        let (bindings, storage) = bindings(&storage);
        let threads = if is_software { 1 } else { THREADS };
        Source {
            label: self.label.clone(),
            wgsl: format!(
                "{bindings}{}{}{}",
                self.constants(),
                total(threads),
                self.body(threads)
            ),
            storage,
        }
    }

    fn constants(&self) -> String {
        [
            ("HEADS", self.heads),
            ("KV_HEADS", self.kv_heads),
            ("HEAD_SIZE", self.head_size),
            ("TURNED", self.rope_dimensions),
            ("PAIRS", self.rope_dimensions / 2),
            ("KEPT_TOKENS", self.kept_tokens),
        ]
        .map(|(name, value)| format!("const {name}: u32 = {value}u;\n"))
        .concat()
    }

    fn body(&self, threads: u32) -> String {
        let (norm, weight, rest) = if self.has_head_norms {
            let norm = include_str!("rope_keep/norm.wgsl");
            let norm = norm.replace("EPSILON", &format!("{:?}", self.epsilon));
            (
                norm,
                " * weight(head, PLACE, scale)",
                include_str!("rope_keep/rest.wgsl"),
            )
        } else {
            (String::new(), "", "")
        };
        let (one, other) = match self.pairs {
            Pairs::Neighbours => ("2u * pair", "one + 1u"),
            Pairs::Halves => ("pair", "one + PAIRS"),
        };
        let keep = match self.cache {
            CacheType::F16 => {
                "for (var i = thread; i < HEAD_SIZE / 2u; i += THREADS) {
            let two = vec2<f32>(qkv[start + 2u * i], qkv[start + 2u * i + 1u]);
            TO[place / 2u + i] = pack2x16float(two);
        }"
            }
            CacheType::F32 => {
                "for (var i = thread; i < HEAD_SIZE; i += THREADS) {
            TO[place + i] = qkv[start + i];
        }"
            }
        };
        let barrier = if threads == 1 {
            ""
        } else {
            "storageBarrier();"
        };
        let weights = if self.has_head_norms { WEIGHT } else { "" };
        let body = include_str!("rope_keep/rope_keep.wgsl")
            .replace("NORM\n", &norm)
            .replace("REST\n", rest)
            .replace("BARRIER", barrier)
            .replace("FIRST_OF_PAIR", one)
            .replace("SECOND_OF_PAIR", other)
            .replace(" WEIGHT_ONE", &weight.replace("PLACE", "one"))
            .replace(" WEIGHT_OTHER", &weight.replace("PLACE", "other"))
            .replace("KEEP_KEY", &keep.replace("TO", "keys"))
            .replace("KEEP_VALUE", &keep.replace("TO", "values"));
        format!("{weights}{body}")
    }

    /// Workgroups for so many tokens.
    pub const fn groups(&self, tokens: u32) -> [u32; 3] {
        [self.heads + 2 * self.kv_heads, tokens, 1]
    }
}

/// Kernels of all kinds and variants, to be compiled by tests.
pub(super) fn every() -> Vec<Source> {
    let plain = RopeKeep {
        label: "rope".to_owned(),
        heads: 9,
        kv_heads: 3,
        head_size: 64,
        pairs: Pairs::Neighbours,
        rope_dimensions: 64,
        has_head_norms: false,
        epsilon: 1e-5,
        kept_tokens: 4096,
        cache: CacheType::F16,
    };
    let normed = RopeKeep {
        pairs: Pairs::Halves,
        rope_dimensions: 32,
        has_head_norms: true,
        cache: CacheType::F32,
        ..plain.clone()
    };
    let of = |rope: &RopeKeep| [true, false].map(|is_software| rope.variant(is_software));
    [of(&plain), of(&normed)].concat()
}

#[cfg(test)]
mod tests;
