//! One dispatch: a kernel with its buffers, and how large it is in a step.

use super::Shape;
use crate::gpu::{Bound, Recorder};
use crate::kernels::{AddNorm, Attend, Embed, Pack, Product, RopeKeep, Step, Variant};

/// A kernel with its buffers.
#[derive(Debug)]
pub struct Dispatch {
    /// The program and what is lent to it.
    pub bound: Bound,
    /// Which kernel it is.
    pub work: Work,
}

/// A stage of drawing a token, as large in every step.
#[derive(Debug)]
pub(super) struct Drawing {
    /// The program and what is lent to it.
    pub(super) bound: Bound,
    /// Workgroups.
    pub(super) groups: [u32; 3],
}

/// What knows how many workgroups a step takes.
#[derive(Debug, Clone)]
pub enum Work {
    /// States from token ids.
    Embed(Embed),
    /// What was computed is added, and normed.
    AddNorm(AddNorm),
    /// A matrix product over the step's tokens.
    Product(Product, Variant),
    /// The same in tiles, for many tokens.
    Tiled(Product),
    /// Activations in 8 bits.
    Pack(Pack),
    /// A product over the tokens whose logits are wanted.
    Output(Product, Variant),
    /// Turns, and keeping keys and values.
    RopeKeep(RopeKeep),
    /// Attention in splits of the context.
    Attend(Attend),
    /// Joins the splits.
    Merge(Attend),
}

impl Work {
    /// The shape of a product of rows; none for what has no such variants.
    pub(super) fn shape(&self) -> Option<Shape> {
        match self {
            Self::Product(product, _) | Self::Output(product, _) => Some(Shape::of(product)),
            Self::Embed(_)
            | Self::AddNorm(_)
            | Self::Tiled(_)
            | Self::Pack(_)
            | Self::RopeKeep(_)
            | Self::Attend(_)
            | Self::Merge(_) => None,
        }
    }
}

impl Dispatch {
    /// Records it, unless the step has nothing for it.
    pub fn record(&self, recorder: &mut Recorder<'_>, step: &Step) {
        let tokens = step.tokens;
        let groups = match &self.work {
            Work::Embed(embed) => embed.groups(tokens),
            Work::AddNorm(norm) => norm.groups(tokens),
            Work::Product(product, variant) => product.groups(*variant, tokens),
            Work::Tiled(product) => product.tiled_groups(tokens),
            Work::Pack(pack) => pack.groups(tokens),
            Work::Output(product, variant) => {
                if step.output_tokens == 0 {
                    return;
                }
                product.groups(*variant, step.output_tokens)
            }
            Work::RopeKeep(keep) => keep.groups(tokens),
            Work::Attend(attend) => attend.groups(step.position, tokens),
            Work::Merge(attend) => attend.merge_groups(tokens),
        };
        recorder.dispatch(&self.bound, groups);
    }
}
