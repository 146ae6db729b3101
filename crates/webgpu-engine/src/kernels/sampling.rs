//! Which token comes next, on the device: from a row of logits to the token's id in the buffer that the next step's
//! gathering reads, so that several tokens can share one read-back.
//!
//! The rules are those of the crate `sampling`; what is drawn differs from it at most where two tokens are
//! level up to rounding.
//!
//! ```text
//! Greedy: logits ─▶ correct ─▶ choose ─▶ ids, counts, results
//! Draw:   logits ─▶ correct ─▶ weigh ─▶ race ─▶ choose ─▶ ids, counts, results
//! ```

mod record;
mod text;

pub use record::{ALTERNATIVES_MAX, RECORD_WORDS, RECORDS, Record, Told};

use crate::gpu::{Abilities, Source};

#[cfg(test)]
mod tests;

/// Sampling over a vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Tokens of the vocabulary: the length of a row of logits. At most 2²⁴.
    pub vocabulary: u32,
}

/// Which list of stages a step takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplingMethod {
    /// The likeliest token: two stages.
    Greedy,
    /// Any rules, those of [`SamplingMethod::Greedy`] as well: four stages.
    Draw,
}

/// What the stages read and write. [`Sampling::buffer_words`] says how long each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SamplingBuffer {
    /// Raw logits, an f32 for each token. Only read.
    Logits,
    /// How often each token was drawn in this answer, u32. The last stage counts the token that it chose.
    Counts,
    /// An f32 for each token that is added to its logit. Only read, and only with [`super::Flags::BIASES`].
    Biases,
    /// A bit for each token, the lowest of a word first: set where it may be drawn. Only read, and only with
    /// [`super::Flags::MASK`].
    Mask,
    /// The chosen token in the first word, 0 where none may be drawn.
    Ids,
    /// A ring of [`RECORDS`] records of [`RECORD_WORDS`] words; that of a step is `step.draw % RECORDS`. See [`Record`].
    Results,
    /// What the stages tell each other.
    Scratch,
}

/// One dispatch. The stages of a list go one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SamplingStage {
    /// The kernel.
    pub source: Source,
    /// Workgroups of the dispatch.
    pub groups: [u32; 3],
    /// Its storage buffers in the order of its bindings.
    pub buffers: Vec<SamplingBuffer>,
}

impl SamplingMethod {
    /// The shorter list that the temperature allows.
    #[must_use]
    pub fn of(temperature: f32) -> Self {
        if temperature < ::sampling::GREEDY_BELOW {
            Self::Greedy
        } else {
            Self::Draw
        }
    }
}

impl Sampling {
    /// The dispatches of a step, in their order.
    pub fn stages(&self, method: SamplingMethod, abilities: &Abilities) -> Vec<SamplingStage> {
        // Devices want many threads. Software has few, and every barrier costs it a switch for each.
        let is_small = abilities.is_software || abilities.workgroup_threads < 256;
        text::Shape::new(*self, is_small).stages(method)
    }

    /// The words of 4 bytes that a buffer has.
    pub fn buffer_words(&self, buffer: SamplingBuffer) -> u64 {
        let vocabulary = u64::from(self.vocabulary);
        match buffer {
            SamplingBuffer::Logits | SamplingBuffer::Counts | SamplingBuffer::Biases => vocabulary,
            SamplingBuffer::Mask => vocabulary.div_ceil(32),
            SamplingBuffer::Ids => 1,
            SamplingBuffer::Results => u64::from(RECORDS * RECORD_WORDS),
            SamplingBuffer::Scratch => text::scratch_words(self.vocabulary),
        }
    }
}

/// Every text that there is, over vocabularies that are cut differently: for tests that compile them elsewhere.
pub(super) fn every() -> Vec<Source> {
    let mut sources = Vec::new();
    for vocabulary in [1000, 262_144] {
        for is_small in [false, true] {
            let shape = text::Shape::new(Sampling { vocabulary }, is_small);
            for method in [SamplingMethod::Greedy, SamplingMethod::Draw] {
                let stages = shape.stages(method);
                sources.extend(stages.into_iter().map(|stage| stage.source));
            }
        }
    }
    sources
}
