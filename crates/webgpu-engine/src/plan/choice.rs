//! Which variant of a product's kernel runs: by what the adapter is, or as a tuning run has found.

use std::collections::BTreeMap;

use crate::gpu::Abilities;
use crate::kernels::{Numbers, Product, Reduce, Variant};

/// Tokens from which on products are computed in tiles, where barriers are cheap.
const TILED_TOKENS_MIN: u32 = 16;

/// Tokens that one thread multiplies a row with, of which it loads the weights once.
const COLUMNS_MAX: u32 = 8;

/// Which kernels a plan is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// How products are computed. Types without whole numbers are computed with floats in any case.
    pub numbers: Numbers,
    /// What a tuning run has found best, by shape.
    pub tuned: BTreeMap<Shape, Tuned>,
    /// What every product takes while a tuning run tries it.
    pub every: Option<Tuned>,
    is_software: bool,
    has_subgroups: bool,
}

/// What a tuning run chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuned {
    /// Threads of a row.
    pub lanes: u32,
    /// Rows of a thread.
    pub rows: u32,
}

/// What a product's speed depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// ggml's numbers of its matrices' types.
    pub kinds: Vec<u32>,
    /// Columns.
    pub inputs: u32,
    /// Rows of all matrices.
    pub rows: u32,
}

impl Shape {
    /// Of a product.
    pub fn of(product: &Product) -> Self {
        let matrices = product.matrices.iter();
        Self {
            kinds: matrices
                .clone()
                .map(|matrix| matrix.kind.quant().ggml_id)
                .collect(),
            inputs: product.inputs,
            rows: matrices.map(|matrix| matrix.rows).sum(),
        }
    }
}

impl Choice {
    /// What an adapter is likely to run best.
    pub const fn new(abilities: &Abilities, numbers: Option<Numbers>) -> Self {
        Self {
            numbers: match numbers {
                Some(Numbers::PackedDot) if abilities.has_packed_dot => Numbers::PackedDot,
                None if abilities.has_packed_dot && abilities.is_software => Numbers::PackedDot,
                Some(Numbers::Float | Numbers::PackedDot) | None => Numbers::Float,
            },
            tuned: BTreeMap::new(),
            every: None,
            is_software: abilities.is_software,
            has_subgroups: abilities.has_subgroups,
        }
    }

    /// For a product of floats over so many tokens.
    pub fn variant(&self, product: &Product, tokens: u32) -> Variant {
        let tuned = self.tuned.get(&Shape::of(product)).copied();
        let tuned = self.every.or(tuned);
        let lanes = tuned.map_or_else(|| self.lanes(product.inputs), |tuned| tuned.lanes);
        // A thread reads four bytes of a state for each weight that it reads half a byte of, so rows share states as far
        // as its registers reach.
        let (rows, columns_max) = match (lanes, tokens) {
            (1, _) => (4, COLUMNS_MAX / 2),
            (_, 0..=2) => (2, COLUMNS_MAX),
            (_, _) => (1, COLUMNS_MAX),
        };
        let rows = tuned
            .filter(|_| tokens <= 2)
            .map_or(rows, |tuned| tuned.rows);
        let can_add = self.has_subgroups && lanes > 1;
        Variant {
            lanes,
            rows,
            columns: tokens.next_power_of_two().min(columns_max),
            reduce: if can_add {
                Reduce::Subgroups
            } else {
                Reduce::Memory
            },
            numbers: Numbers::Float,
        }
    }

    /// Whether activations are packed for products of whole numbers.
    pub const fn is_packed(&self) -> bool {
        match self.numbers {
            Numbers::Float => false,
            Numbers::PackedDot => true,
        }
    }

    /// Whether a product over so many tokens is computed in tiles.
    pub const fn is_tiled(&self, tokens: u32) -> bool {
        !self.is_software && tokens >= TILED_TOKENS_MIN
    }

    /// Threads a row: one where barriers are slow, otherwise about one for each two groups of 32 weights.
    fn lanes(&self, inputs: u32) -> u32 {
        if self.is_software {
            return 1;
        }
        (inputs / 64).max(4).next_power_of_two().min(64)
    }

    /// What a tuning run tries beside the default; nothing where barriers are slow, since one thread a row is always
    /// fastest there.
    pub fn candidates(&self) -> Vec<Tuned> {
        if self.is_software {
            return Vec::new();
        }
        let lanes = [4, 8, 16, 32, 64].into_iter();
        lanes
            .flat_map(|lanes| [1, 2, 4].map(|rows| Tuned { lanes, rows }))
            .collect()
    }

    /// Whether there are kernels of this kind.
    pub const fn is_known(tuned: Tuned) -> bool {
        matches!(tuned.lanes, 1 | 4 | 8 | 16 | 32 | 64) && matches!(tuned.rows, 1 | 2 | 4)
    }
}
