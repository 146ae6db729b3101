//! Pictures between decode steps: embeddings cannot go into a batch of tokens, so they go into batches of their own.
//!
//! One piece of one picture goes before each step, as large as a piece of a prompt is there: so running answers wait no
//! longer for pictures than for text. Pictures whose tokens look at each other cannot be cut; they wait for a whole one.

use super::LlamaEngine;
use super::slot::Slot;
use crate::engine::EngineEvent;

/// Tokens of a picture per step while nobody is answering.
const TOKENS_ALONE: usize = 256;

/// Tokens of a picture per step beside running answers.
const TOKENS_BESIDE: usize = 64;

impl LlamaEngine<'_> {
    /// Puts a piece of a picture into the cache, where a job has come to one; `false` where that failed.
    pub(super) fn look(&mut self) -> bool {
        let Some(projector) = self.projector else {
            return true;
        };
        let mut active = self.slots.iter().flatten().filter(|slot| !slot.is_paused());
        let tokens_max = if active.all(Slot::is_reading) {
            TOKENS_ALONE
        } else {
            TOKENS_BESIDE
        };
        let looking = (0usize..).zip(&self.slots).find_map(|(place, slot)| {
            let index = slot.as_ref()?.looks_at()?;
            (!self.cache.is_following(place)).then_some((place, index))
        });
        let Some((place, index)) = looking else {
            return true;
        };
        let Some(slot) = self.slots.get(place).and_then(Option::as_ref) else {
            return true;
        };
        let tokens = slot.view().next_tokens(projector, index, tokens_max);
        self.make_room(tokens);
        let (slot, sequence) = (self.slots.get_mut(place), i32::try_from(place));
        let Some((slot, sequence)) = slot.and_then(Option::as_mut).zip(sequence.ok()) else {
            return true;
        };
        let view = slot.view();
        if !view.decode(projector, &mut self.context, index, tokens, sequence) {
            return false;
        }
        self.failures = 0;
        self.events.push_back(EngineEvent::Progress {
            key: slot.key(),
            prefilled_tokens: slot.note_seen(tokens),
        });
        true
    }
}
