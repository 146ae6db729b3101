//! What a layer's half gives is added to what goes on between the halves, and the sum is normed for the next.

use crate::gpu::{Abilities, Access, Source};

/// Per token: `states += addend` (or the addend's norm), then `outputs = states / √(mean(states²) + ε) · weights`.
///
/// Bindings: states (written only with an addend), the addend where there is one, the weights of its norm where it has
/// one, weights, outputs, the outputs packed where asked for, the step. The first group of the grid is of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct AddNorm {
    /// What it is called in messages.
    pub label: String,
    /// Numbers of a token, a multiple of 4.
    pub width: u32,
    /// What keeps the root from zero.
    pub epsilon: f32,
    /// Whether something is added first.
    pub has_addend: bool,
    /// Whether what is added has a norm of its own (Gemma 3).
    pub has_post_norm: bool,
    /// Whether the outputs are written a second time, in 8 bits.
    pub is_packed: bool,
}

impl AddNorm {
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
        [tokens, 1, 1]
    }
}
