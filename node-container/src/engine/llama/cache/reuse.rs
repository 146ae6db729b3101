//! What is in the cache of a job's context, and how the job gets it.

use std::rc::Rc;

use llama_cpp_2::context::session::SeqState;
use llama_cpp_2::token::LlamaToken;

use super::common::{Common, common};
use super::entries::joined;
use super::state::SHARED_TOKENS_MIN;
use crate::engine::llama::LlamaEngine;
use crate::engine::llama::slot::Slot;

/// Where the beginning of a job's context lies already.
#[derive(Debug)]
struct Found {
    sequence: i32,
    common: Common,
    /// An entry that goes on: nothing else is in it.
    is_whole: bool,
    /// To be put in place of the part that cannot be cut.
    state: Option<Rc<SeqState>>,
}

impl LlamaEngine<'_> {
    /// Shares the longest beginning of a job's context that is in the cache, if that is more than it has.
    pub(super) fn reuse(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index).and_then(Option::as_ref) else {
            return;
        };
        let least = slot.prefilled() + SHARED_TOKENS_MIN;
        let found = self.find(index, slot);
        let Some(found) = found.filter(|found| found.common.wanted >= least) else {
            return;
        };
        let Some(tokens) = self.share_found(index, &found) else {
            return;
        };
        if let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) {
            slot.reuse(&tokens, found.common.wanted);
        }
    }

    /// The longest beginning of a job's context that is in the cache.
    fn find(&self, index: usize, slot: &Slot) -> Option<Found> {
        if !slot.may_reuse() {
            return None;
        }
        let entries = self
            .cache
            .entries
            .iter()
            .map(|entry| self.compare(slot, entry.sequence, &entry.tokens, true));
        let running = (0i32..).zip(&self.slots).filter_map(|(sequence, other)| {
            let other = other.as_ref()?;
            let is_itself = usize::try_from(sequence) == Ok(index);
            (!is_itself).then(|| self.compare(slot, sequence, &other.evaluated(), false))
        });
        entries.chain(running).reduce(|best, other| {
            if other.common.wanted > best.common.wanted {
                other
            } else {
                best
            }
        })
    }

    /// How much of a job's context a sequence holds.
    fn compare(&self, slot: &Slot, sequence: i32, tokens: &[LlamaToken], is_entry: bool) -> Found {
        let wanted = slot.context();
        let is_whole = |at: Common| is_entry && at.cached == tokens.len();
        // A window that has not begun to forget can be cut like everything else. What is shared of a running job's could
        // never be overwritten while both run.
        let can_be_cut = !self.cache.needs_checkpoints
            || (is_entry && self.context.kv_cache_seq_pos_min(sequence) == 0);
        let common = common(self.words(), tokens, wanted, |at| {
            // Something has to be evaluated to go on from, and tokens that were drawn may be more than the tokeniser's.
            at.wanted < wanted.len()
                && !slot.view().is_within(at.wanted)
                && slot.has_room_for(at.cached.saturating_sub(at.wanted))
                && (can_be_cut || is_whole(at) || self.cache.checkpoints.has(sequence, at.cached))
        });
        let state = (self.cache.needs_checkpoints && !is_whole(common))
            .then(|| self.cache.checkpoints.at(sequence, common.cached))
            .flatten();
        Found {
            sequence,
            common,
            is_whole: is_whole(common),
            state,
        }
    }

    /// Gives a slot's sequence what was found; its tokens, or nothing where the cache refuses.
    fn share_found(&mut self, index: usize, found: &Found) -> Option<Vec<LlamaToken>> {
        let to = i32::try_from(index).ok()?;
        let (from, count) = (found.sequence, found.common.cached);
        let source = usize::try_from(from)
            .ok()
            .and_then(|from| self.slots.get(from));
        let tokens = if let Some(running) = source.and_then(Option::as_ref) {
            running.evaluated()
        } else {
            let mut entries = self.cache.entries.iter();
            entries.find(|entry| entry.sequence == from)?.tokens.clone()
        };
        // Whatever happens now, the slot's own beginning is not there any more.
        if let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) {
            slot.start_over();
        }
        self.empty(to);
        self.copy(from, to, count);
        if self.cache.needs_checkpoints && !found.is_whole && !self.restore(to, count, found) {
            tracing::warn!("a saved state could not be restored");
            self.empty(to);
            return None;
        }
        if self.context.kv_cache_seq_pos_max(to) != i32::try_from(count).ok()? - 1 {
            tracing::warn!("a model's cache could not be cut");
            self.empty(to);
            return None;
        }
        self.cache.checkpoints.share(from, to, count);
        if found.is_whole {
            if let Some(entry) = self.evict(from)
                && let Some(seat) = self.cache.seat(index)
            {
                seat.older = joined(&entry.names, &seat.older);
            }
        } else {
            self.cache.entries.touch(from);
        }
        tokens.get(..count).map(<[LlamaToken]>::to_vec)
    }

    /// Puts a state in place of the part that cannot be cut. It is a copy: cells of a window that two sequences share
    /// could not be overwritten by either.
    fn restore(&mut self, sequence: i32, tokens: usize, found: &Found) -> bool {
        let state = found.state.clone().or_else(|| self.save(sequence, tokens));
        state.is_some_and(|state| self.context.state_seq_set(&state, sequence).is_ok())
    }
}

#[cfg(test)]
mod tests;
