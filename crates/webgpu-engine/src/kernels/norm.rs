//! What a layer's half gives is added to what goes on between the halves, and the sum is normed for the next.

use super::packed;
use super::total::{bindings, total};
use crate::gpu::{Abilities, Access, Source};

/// Per token: `states += addend` (or the addend's norm), then `outputs = states / √(mean(states²) + ε) · weights`.
///
/// Bindings: states (written only with an addend), the addend where there is one, the weights of its norm where it has
/// one, weights, outputs, the outputs packed where asked for, the step.
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
    /// Whether the outputs are written a second time, in 8 bits as [`packed`] has them; their width is whole groups then.
    pub is_packed: bool,
}

/// Up to so many numbers 64 threads are enough.
const FEW: u32 = 1024;

/// What other threads of the workgroup wrote is there behind it.
const BARRIER: &str = "    storageBarrier();\n";

impl AddNorm {
    /// Its text for a device.
    pub fn source(&self, abilities: &Abilities) -> Source {
        self.variant(abilities.is_software)
    }

    fn variant(&self, is_software: bool) -> Source {
        let quads = "vec4<f32>";
        let mut storage = vec![("states", quads, Access::Read)];
        if self.has_addend {
            storage = vec![
                ("states", quads, Access::Write),
                ("addends", quads, Access::Read),
            ];
        }
        if self.has_post_norm {
            storage.push(("post_weights", quads, Access::Read));
        }
        storage.push(("weights", quads, Access::Read));
        storage.push(("outputs", quads, Access::Write));
        if self.is_packed {
            storage.push(("packed", "vec4<u32>", Access::Write));
        }
        let (bindings, storage) = bindings(&storage);
        let threads = match is_software {
            true => 1,
            false if self.width <= FEW => 64,
            false => 256,
        };
        let body = include_str!("norm/norm.wgsl")
            .replace("ADD\n", self.add())
            .replace("PACK\n", &self.pack(threads));
        let parts = if self.is_packed { packed::WGSL } else { "" };
        Source {
            label: self.label.clone(),
            wgsl: format!(
                "{bindings}const QUADS: u32 = {}u;\nconst EPSILON: f32 = {:?};\n{}{parts}{body}",
                self.width / 4,
                self.epsilon,
                total(threads)
            ),
            storage,
        }
    }

    /// What comes last: a thread has a group of numbers here, which others have written.
    fn pack(&self, threads: u32) -> String {
        if !self.is_packed {
            return String::new();
        }
        let barrier = if threads == 1 { "" } else { BARRIER };
        let groups = self.width / packed::GROUP;
        let numbers = [0, 1, 2, 3, 4, 5, 6, 7].map(|place| format!("outputs[place + {place}u]"));
        let pack = include_str!("norm/pack.wgsl").replace("NUMBERS", &numbers.join(", "));
        let pack = pack.replace("VECTORS", &format!("{}u", packed::GROUP_VECTORS));
        barrier.to_owned() + &pack.replace("GROUPS", &format!("{groups}u"))
    }

    /// What comes before the sum of squares.
    const fn add(&self) -> &'static str {
        if self.has_addend && self.has_post_norm {
            "    var added = vec4<f32>();
    for (var i = thread; i < QUADS; i += THREADS) {
        added += addends[start + i] * addends[start + i];
    }
    let added_scale = scale_of(thread, added);
    for (var i = thread; i < QUADS; i += THREADS) {
        states[start + i] += addends[start + i] * added_scale * post_weights[i];
    }
"
        } else if self.has_addend {
            "    for (var i = thread; i < QUADS; i += THREADS) {
        states[start + i] += addends[start + i];
    }
"
        } else {
            ""
        }
    }

    /// Workgroups for so many tokens.
    pub const fn groups(&self, tokens: u32) -> [u32; 3] {
        [tokens, 1, 1]
    }
}

/// Kernels of all kinds and variants, to be compiled by tests.
pub(super) fn every() -> Vec<Source> {
    let kinds = [(false, false), (true, false), (true, true)];
    let all = kinds.into_iter().flat_map(|(has_addend, has_post_norm)| {
        [576, 4096].into_iter().flat_map(move |width| {
            let norm = AddNorm {
                label: "norm".to_owned(),
                width,
                epsilon: 1e-5,
                has_addend,
                has_post_norm,
                is_packed: has_addend,
            };
            [true, false].map(|is_software| norm.variant(is_software))
        })
    });
    all.collect()
}

#[cfg(test)]
mod tests;
