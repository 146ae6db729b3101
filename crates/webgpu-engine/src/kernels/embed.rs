//! Embeddings: the rows of a matrix that the tokens of a step name.
//!
//! Bindings: token ids (`u32`, one for each token of the step), the matrix, states (token after token), `Step`.

use super::product::{binding, grid, step};
use crate::gpu::{Abilities, Access, Source};
use crate::quant::{LOAD_WEIGHTS, QuantType, WEIGHTS_WGSL};

/// Threads of a workgroup.
const THREADS: u32 = 64;

/// Gathers the embeddings of a step's tokens from some rows of the matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Embed {
    /// What it is called in messages.
    pub label: String,
    /// The type of the weights.
    pub kind: QuantType,
    /// How many rows the buffer has.
    pub rows: u32,
    /// The token of its first row. Tokens of other rows are left as they are.
    pub first_row: u32,
    /// Numbers of an embedding: whole blocks, and a multiple of 32.
    pub width: u32,
    /// What embeddings are multiplied with.
    pub scale: f32,
}

impl Embed {
    /// The kernel.
    pub fn source(&self, _abilities: &Abilities) -> Source {
        let weights = u64::from(self.rows) * u64::from(self.width);
        let text = [
            binding(0, Access::Read, "ids", "u32"),
            binding(1, Access::Read, "embeddings", self.kind.element()),
            binding(2, Access::Write, "states", "vec4<f32>"),
            step(3),
            WEIGHTS_WGSL.to_owned(),
            self.kind.load_wgsl("embeddings", weights),
            include_str!("embed/embed.wgsl")
                .replace("THREADS", &THREADS.to_string())
                .replace("BLOCKS", &format!("{}u", self.width / LOAD_WEIGHTS))
                .replace("FIRST", &format!("{}u", self.first_row))
                .replace("ROWS", &format!("{}u", self.rows))
                .replace("SCALE", &format!("{:?}f", self.scale)),
        ];
        Source {
            label: self.label.clone(),
            wgsl: text.concat(),
            storage: vec![Access::Read, Access::Read, Access::Write],
        }
    }

    /// How many workgroups so many tokens take.
    pub fn groups(&self, tokens: u32) -> [u32; 3] {
        let blocks = self.width / LOAD_WEIGHTS;
        let [wide, high] = grid((tokens * blocks).div_ceil(THREADS));
        [wide, high, 1]
    }
}

/// Kernels of all types, to be compiled by tests.
pub(super) fn every() -> Vec<Source> {
    let abilities = super::all_abilities();
    let embeds = QuantType::ALL.map(|kind| Embed {
        label: format!("embed {kind:?}"),
        kind,
        rows: 2048,
        first_row: 2048,
        width: 768,
        scale: 1.5,
    });
    embeds.map(|embed| embed.source(&abilities)).to_vec()
}

#[cfg(test)]
mod tests;
