//! Attention of the step's tokens to what is kept, split over the context: each split gives the maximum of its scores, the
//! sum of their exponentials and the values weighted with those; `merge` joins the splits of a head.

use crate::gpu::{Abilities, Access, Source};
use crate::model::CacheType;

/// A layer's attention.
///
/// Bindings of `source`: queries, keys and values of each token (read), kept keys, kept values, partials (written), the
/// step. Of `merge_source`: partials, outputs (`heads · head_size` of each token), the outputs packed where asked for, the
/// step.
#[derive(Debug, Clone, PartialEq)]
pub struct Attend {
    /// What it is called in messages.
    pub label: String,
    /// Heads of queries.
    pub heads: u32,
    /// Heads of keys, and of values; each serves as many heads of queries.
    pub kv_heads: u32,
    /// Numbers of a head, a multiple of 4 up to 256.
    pub head_size: u32,
    /// What products of query and key are multiplied with.
    pub scale: f32,
    /// Bounds them.
    pub soft_cap: Option<f32>,
    /// How many tokens are seen, the one that attends among them; all before it where there is none.
    pub window: Option<u32>,
    /// Tokens that the layer keeps.
    pub kept_tokens: u32,
    /// How they are kept.
    pub cache: CacheType,
    /// Tokens that one split sees.
    pub split_tokens: u32,
    /// Whether `merge` writes its outputs a second time, in 8 bits.
    pub is_packed: bool,
}

impl Attend {
    /// The text of the splits for a device.
    pub fn source(&self, _abilities: &Abilities) -> Source {
        Source {
            label: self.label.clone(),
            wgsl: String::new(),
            storage: vec![Access::Read, Access::Read, Access::Read, Access::Write],
        }
    }

    /// Its workgroups, for so many tokens from a position on: only as many splits as the longest range that is seen has.
    pub fn groups(&self, position: u32, tokens: u32) -> [u32; 3] {
        let shared = self.heads_per_group().max(1);
        [self.heads / shared, self.splits(position, tokens), tokens]
    }

    /// Heads of queries that a workgroup serves from one reading of keys and values: those of a head of keys, or an even
    /// share of them where their queries are too many for the memory of a workgroup.
    fn heads_per_group(&self) -> u32 {
        let served = self.heads / self.kv_heads.max(1);
        let fits = |count: &u32| served.is_multiple_of(*count) && count * self.head_size <= 1024;
        (1..=served.min(8)).rev().find(fits).unwrap_or(1)
    }

    /// Splits of a step.
    pub fn splits(&self, position: u32, tokens: u32) -> u32 {
        self.splits_max(position.saturating_add(tokens))
    }

    /// The most splits of a step that ends at this position.
    pub fn splits_max(&self, end: u32) -> u32 {
        let seen = self.window.map_or(end, |window| window.min(end));
        seen.div_ceil(self.split_tokens.max(1)).max(1)
    }

    /// Words of the partials of steps of up to so many tokens that end at this position or before.
    pub fn partial_words(&self, end: u32, tokens: u32) -> u64 {
        let heads = u64::from(self.heads) * u64::from(tokens);
        u64::from(self.splits_max(end)) * heads * u64::from(self.head_size + 4)
    }

    /// The text that joins splits.
    pub fn merge_source(&self, _abilities: &Abilities) -> Source {
        Source {
            label: format!("{} merge", self.label),
            wgsl: String::new(),
            storage: vec![Access::Read, Access::Write],
        }
    }

    /// Its workgroups.
    pub const fn merge_groups(&self, tokens: u32) -> [u32; 3] {
        let quads = self.heads * self.head_size / 4;
        [quads.div_ceil(64), tokens, 1]
    }
}
