//! Which variant of a product's kernel runs: by what the adapter is, or as a tuning run has found.

use std::collections::BTreeMap;

use crate::gpu::Abilities;
use crate::kernels::{Numbers, Product, Reduce, Tile, Variant};

/// Tokens from which on products are computed in tiles, where barriers are cheap.
const TILED_TOKENS_MIN: u32 = 16;

/// Tokens that one thread multiplies a row with, of which it loads the weights once.
const COLUMNS_MAX: u32 = 8;

/// On browsers' adapters in software (`SwiftShader`) whole numbers read no faster and write a fifth faster
/// (docs/benchmarks.md): too little for what they round.
const IN_BROWSER: bool = cfg!(target_family = "wasm");

/// Rows of a thread that has them alone.
const ROWS_ALONE: u32 = 4;

/// Which kernels a plan is made of.
#[expect(
    clippy::struct_excessive_bools,
    reason = "abilities come in any combination"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// How products are computed. Types without whole numbers are computed with floats in any case.
    pub numbers: Numbers,
    /// What tiles are made of.
    pub tile: Tile,
    /// What a tuning run has found best, by shape.
    pub tuned: BTreeMap<Shape, Tuned>,
    /// What every product takes while a tuning run tries it.
    pub every: Option<Tuned>,
    /// How products are computed without a tuning run.
    pub(crate) numbers_default: Numbers,
    /// Whether nobody has said which numbers products are of, so that a tuning run may take packed ones.
    pub(crate) may_pack: bool,
    pub(crate) is_software: bool,
    pub(crate) has_subgroups: bool,
    pub(crate) has_half: bool,
}

/// What a tuning run chooses for a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuned {
    /// Threads of a row.
    pub lanes: u32,
    /// Rows of a thread.
    pub rows: u32,
    /// How the threads' sums become one, where there are several.
    pub reduce: Reduce,
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
    pub const fn new(abilities: &Abilities, wanted: Option<Numbers>) -> Self {
        let numbers = match wanted {
            Some(Numbers::PackedDot) if abilities.has_packed_dot => Numbers::PackedDot,
            None if abilities.has_packed_dot && abilities.is_software && !IN_BROWSER => {
                Numbers::PackedDot
            }
            Some(Numbers::Float | Numbers::PackedDot) | None => Numbers::Float,
        };
        Self {
            numbers,
            tile: Tile::Floats,
            tuned: BTreeMap::new(),
            every: None,
            numbers_default: numbers,
            may_pack: wanted.is_none() && abilities.has_packed_dot && !abilities.is_software,
            is_software: abilities.is_software,
            has_subgroups: abilities.has_subgroups,
            has_half: abilities.has_half,
        }
    }

    /// For a product of floats over so many tokens.
    pub fn variant(&self, product: &Product, tokens: u32) -> Variant {
        let tuned = self.tuned_of(&Shape::of(product));
        let (rows_of_many, columns_max) = match tuned.lanes {
            1 => (ROWS_ALONE, COLUMNS_MAX / 2),
            _ => (1, COLUMNS_MAX),
        };
        Variant {
            lanes: tuned.lanes,
            rows: if tokens <= 2 {
                tuned.rows
            } else {
                rows_of_many
            },
            columns: tokens.next_power_of_two().min(columns_max),
            reduce: tuned.reduce,
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

    /// Whether there must be room for packed activations.
    pub const fn may_be_packed(&self) -> bool {
        self.may_pack || self.is_packed()
    }

    /// Takes what a tuning run on this adapter has found.
    pub fn tune(&mut self, tuned: BTreeMap<Shape, Tuned>, tile: Tile, numbers: Option<Numbers>) {
        self.tuned = tuned;
        self.tile = tile;
        let numbers = numbers.filter(|_| self.may_pack);
        self.numbers = numbers.unwrap_or(self.numbers_default);
    }

    /// What it was before any tuning run.
    #[must_use]
    pub fn untuned(&self) -> Self {
        Self {
            numbers: self.numbers_default,
            tile: Tile::Floats,
            tuned: BTreeMap::new(),
            every: None,
            ..self.clone()
        }
    }

    /// Whether a product over so many tokens is computed in tiles.
    pub const fn is_tiled(&self, tokens: u32) -> bool {
        !self.is_software && tokens >= TILED_TOKENS_MIN
    }

    /// What a shape takes.
    pub fn tuned_of(&self, shape: &Shape) -> Tuned {
        let tuned = self.every.or_else(|| self.tuned.get(shape).copied());
        tuned.unwrap_or_else(|| self.default_of(shape.inputs))
    }

    /// What a product with so many columns takes where no tuning run has found better: one thread a row where barriers
    /// are slow, otherwise about one for each two groups of 32 weights.
    ///
    /// A thread reads four bytes of a state for each weight that it reads half a byte of, so rows share states as far as
    /// its registers reach.
    pub fn default_of(&self, inputs: u32) -> Tuned {
        if self.is_software {
            return Tuned {
                lanes: 1,
                rows: ROWS_ALONE,
                reduce: Reduce::Memory,
            };
        }
        Tuned {
            lanes: (inputs / 64).max(4).next_power_of_two().min(64),
            rows: 2,
            reduce: self.reduce(),
        }
    }

    /// By subgroups where there are any.
    const fn reduce(&self) -> Reduce {
        if self.has_subgroups {
            Reduce::Subgroups
        } else {
            Reduce::Memory
        }
    }

    /// What a tuning run tries beside the default; nothing where barriers are slow, since one thread a row is always
    /// fastest there.
    pub fn candidates(&self) -> Vec<Tuned> {
        if self.is_software {
            return Vec::new();
        }
        let reduce = self.reduce();
        let lanes = [4, 8, 16, 32, 64].into_iter();
        let tuned = |lanes, rows| Tuned {
            lanes,
            rows,
            reduce,
        };
        lanes
            .flat_map(|lanes| [1, 2, 4].map(|rows| tuned(lanes, rows)))
            .collect()
    }

    /// What is tried beside the best of those: the other way to make one of sums.
    pub const fn other_reduce(&self, tuned: Tuned) -> Option<Tuned> {
        match tuned.reduce {
            Reduce::Subgroups if self.has_subgroups => Some(Tuned {
                reduce: Reduce::Memory,
                ..tuned
            }),
            Reduce::Subgroups | Reduce::Memory => None,
        }
    }

    /// What products may be of beside floats.
    pub const fn other_numbers(&self) -> Option<Numbers> {
        match self.numbers {
            Numbers::Float if self.may_pack => Some(Numbers::PackedDot),
            Numbers::Float | Numbers::PackedDot => None,
        }
    }

    /// What tiles may be made of beside floats, for steps of so many tokens.
    pub const fn other_tile(&self, tokens: u32) -> Option<Tile> {
        if self.has_half && self.is_tiled(tokens) {
            return Some(Tile::Halves);
        }
        None
    }

    /// Whether there are kernels of this kind.
    pub const fn is_known(tuned: Tuned) -> bool {
        matches!(tuned.lanes, 1 | 4 | 8 | 16 | 32 | 64) && matches!(tuned.rows, 1 | 2 | 4)
    }
}
