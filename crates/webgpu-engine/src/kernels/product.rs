//! Products of matrices with the states of tokens: nearly all that a model computes, and all of its weights that are
//! read.
//!
//! A row of a matrix is multiplied by `lanes` threads, of which each takes every so-manieth group of 32 weights; weights
//! are read and decoded once for `columns` tokens, and states are read once for `rows` rows. One dispatch can have up to
//! three matrices (queries, keys, values), whose rows follow one another in the output, or two that become one by a gated
//! activation.
//!
//! Bindings: states (token after token), the matrices, perhaps a bias, output, [`Step`].

mod every;
pub(super) mod text;

pub(super) use every::{every, samples};

use super::Step;
use crate::gpu::{Abilities, Access, Source};
use crate::model::Activation;
use crate::quant::{LOAD_WEIGHTS, QuantType};

/// Threads of a workgroup.
pub(super) const THREADS: u32 = 64;

/// Workgroups of a dispatch in one direction, by WebGPU's default limits.
const GROUPS_MAX: u32 = 65_535;

/// How the sums of a row's threads become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reduce {
    /// By memory that the workgroup shares, with barriers.
    Memory,
    /// By operations of subgroups as far as these reach, and by shared memory beyond. Without them it is
    /// [`Reduce::Memory`].
    Subgroups,
}

/// What weights and states are multiplied as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Numbers {
    /// 32-bit floats.
    Float,
    /// Integers of 8 bits, four in a word; the states were packed before ([`super::packed`]). Only with
    /// [`Abilities::has_packed_dot`].
    PackedDot,
}

/// One of the ways to compute the same product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Variant {
    /// Threads of a row: 1, 4, 8, 16, 32 or 64. With one there is no barrier, which is what software adapters need.
    pub lanes: u32,
    /// Rows of a thread: 1, 2 or 4.
    pub rows: u32,
    /// Tokens of a thread: 1, 2, 4 or 8.
    pub columns: u32,
    /// How the threads' sums become one.
    pub reduce: Reduce,
    /// What is multiplied.
    pub numbers: Numbers,
}

impl Variant {
    /// Threads of a workgroup. With one thread a row it has about 64 rows in any case, so that processors with few cores
    /// share the rows of small matrices evenly.
    const fn threads(self) -> u32 {
        if self.lanes == 1 {
            THREADS / self.rows
        } else {
            THREADS
        }
    }

    /// Rows of a workgroup.
    const fn group_rows(self) -> u32 {
        self.threads() / self.lanes * self.rows
    }

    /// One thread a row and one token at a time.
    pub const PLAIN: Self = Self {
        lanes: 1,
        rows: 1,
        columns: 1,
        reduce: Reduce::Memory,
        numbers: Numbers::Float,
    };
}

/// Some rows of a matrix, in a buffer as [`QuantType::layout`] has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Matrix {
    /// The type of its weights.
    pub kind: QuantType,
    /// How many rows.
    pub rows: u32,
}

/// Which tokens of a step are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tokens {
    /// All.
    All,
    /// Those that logits are made for: from `step.output_first` on. The output begins with the first of them.
    Output,
}

/// Products of one to three matrices with the states of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// What it is called in messages.
    pub label: String,
    /// One to three; two where they are gated.
    pub matrices: Vec<Matrix>,
    /// Numbers of a state, which are the weights of a row: whole blocks of all matrices, and a multiple of 32.
    pub inputs: u32,
    /// Whether a number is added to each row: one vector for all rows of the output, of which the first of these is at
    /// `output_first`.
    pub has_bias: bool,
    /// Makes `activation(first) · second` of two matrices with as many rows.
    pub gated: Option<Activation>,
    /// Whether results are held below a number: see [`crate::reference::activation::soft_cap`].
    pub soft_cap: Option<f32>,
    /// Where in a token's output the first row goes.
    pub output_first: u32,
    /// Numbers between one token's output and the next one's.
    pub output_stride: u32,
    /// Which tokens.
    pub tokens: Tokens,
}

impl Product {
    /// The kernel. Tokens that the step does not have are neither read nor written.
    pub fn source(&self, variant: Variant, abilities: &Abilities) -> Source {
        Source {
            label: self.label.clone(),
            wgsl: text::Text::new(self, variant, abilities).wgsl(),
            storage: self.storage(),
        }
    }

    /// Its buffers.
    pub(super) fn storage(&self) -> Vec<Access> {
        let biases = usize::from(self.has_bias);
        let mut storage = vec![Access::Read; 1 + self.matrices.len() + biases];
        storage.push(Access::Write);
        storage
    }

    /// How many workgroups so many tokens take.
    pub fn groups(&self, variant: Variant, tokens: u32) -> [u32; 3] {
        let [wide, high] = self.grid(variant);
        [wide, high, tokens.div_ceil(variant.columns)]
    }

    /// The workgroups of all rows: in two directions, since one has a limit.
    fn grid(&self, variant: Variant) -> [u32; 2] {
        let last = self.firsts(variant).last().copied().unwrap_or(0);
        grid(last)
    }

    /// The workgroup that each matrix begins with, and how many there are. Gated matrices have their workgroups in
    /// common.
    fn firsts(&self, variant: Variant) -> Vec<u32> {
        let rows = variant.group_rows();
        let count = if self.gated.is_some() { 1 } else { usize::MAX };
        let mut firsts = vec![0];
        let mut sum = 0;
        for matrix in self.matrices.iter().take(count) {
            sum += matrix.rows.div_ceil(rows);
            firsts.push(sum);
        }
        firsts
    }
}

/// So many workgroups in two directions: as few as possible too many. The index of one is `x + y · wide`.
pub(super) fn grid(count: u32) -> [u32; 2] {
    let high = count.div_ceil(GROUPS_MAX).max(1);
    [count.div_ceil(high), high]
}

/// The declaration of a storage buffer.
pub(super) fn binding(index: usize, access: Access, name: &str, element: &str) -> String {
    let access = match access {
        Access::Read => "read",
        Access::Write => "read_write",
    };
    format!(
        "@group(0) @binding({index}) var<storage, {access}> {name}: array<{element}>;
"
    )
}

/// The declarations of the step's parameters.
pub(super) fn step(index: usize) -> String {
    format!(
        "{}@group(0) @binding({index}) var<uniform> step: Step;
",
        Step::WGSL
    )
}

#[cfg(test)]
pub(crate) mod tests;
