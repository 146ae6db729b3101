//! Attention of one token to itself and to those before it.

use super::activation::soft_cap;
use super::product::dot;
use crate::model::Config;

/// How a layer's tokens attend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; each serves as many heads of queries, in their order (Ainslie and others, `GQA`).
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_size: usize,
    /// What products of query and key are multiplied with.
    pub scale: f32,
    /// Bounds them.
    pub soft_cap: Option<f32>,
    /// How many tokens are seen, the one that attends among them; all before it where there is none.
    pub window: Option<usize>,
}

impl Attention {
    /// A layer's, as the config says.
    pub fn of(config: &Config, layer: u32) -> Self {
        let length = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let window = config.window.as_ref();
        let window = window.filter(|_| config.has_window(layer));
        Self {
            heads: length(config.heads),
            kv_heads: length(config.kv_heads),
            head_size: length(config.head_size),
            scale: config.attention_scale,
            soft_cap: config.attention_soft_cap,
            window: window.map(|window| length(window.tokens)),
        }
    }

    /// `Σⱼ softmaxⱼ(cap(scale · q·kⱼ)) · vⱼ` for each head (Vaswani and others, 2017).
    ///
    /// `queries` are those of one token, `keys` and `values` those of all tokens up to it: its own come last.
    pub fn attend(&self, queries: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
        let width = (self.kv_heads * self.head_size).max(1);
        let tokens = keys.len() / width;
        let seen = self.window.unwrap_or(tokens).min(tokens);
        let first = (tokens - seen) * width;
        let keys = keys.get(first..).unwrap_or_default();
        let values = values.get(first..).unwrap_or_default();
        let served = (self.heads / self.kv_heads.max(1)).max(1);
        let queries = queries.chunks_exact(self.head_size).enumerate();
        let heads = queries.flat_map(|(head, query)| {
            let start = head / served * self.head_size;
            let part = start..start + self.head_size;
            let keys = keys.chunks_exact(width);
            let keys = keys.map(|row| row.get(part.clone()).unwrap_or_default());
            let shares = softmax(keys.map(|key| self.score(query, key)).collect());
            let mut sum = vec![0.0; self.head_size];
            for (share, row) in shares.iter().zip(values.chunks_exact(width)) {
                let values = row.get(part.clone()).unwrap_or_default();
                for (sum, value) in sum.iter_mut().zip(values) {
                    *sum += share * value;
                }
            }
            sum
        });
        heads.collect()
    }

    fn score(&self, query: &[f32], key: &[f32]) -> f32 {
        let score = dot(query, key) * self.scale;
        match self.soft_cap {
            Some(cap) => soft_cap(score, cap),
            None => score,
        }
    }
}

/// `e^(xᵢ - max) / Σ e^(xⱼ - max)`. As in ggml, the sum is made in 64 bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a number from 0 to 1 goes back to 32 bits"
)]
pub fn softmax(mut scores: Vec<f32>) -> Vec<f32> {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in &mut scores {
        *score = (*score - most).exp();
    }
    let scale = 1.0 / scores.iter().copied().map(f64::from).sum::<f64>();
    for score in &mut scores {
        *score *= scale as f32;
    }
    scores
}
