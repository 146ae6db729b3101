//! Where and when states are saved of models whose caches cannot be cut anywhere.

use std::rc::Rc;

use llama_cpp_2::context::session::{LlamaStateSeqFlags, SeqState};
use llama_cpp_2::token::LlamaToken;

use super::checkpoints::{CHECKPOINT_BYTES_MAX, Checkpoint};
use super::common::common;
use super::state::SHARED_TOKENS_MIN;
use super::words::Words;
use crate::engine::llama::LlamaEngine;

/// Reading fewer tokens again costs less than a checkpoint.
const CHECKPOINT_TOKENS_APART: usize = 64;

impl LlamaEngine<'_> {
    /// Saves states of sequences that have just been read up to where they should be saved.
    pub(in crate::engine::llama) fn save_checkpoints(&mut self) {
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get(index).and_then(Option::as_ref) else {
                continue;
            };
            let prefilled = slot.prefilled();
            let Some(seat) = self.cache.seats.get_mut(index) else {
                continue;
            };
            let stop = seat.stops.pop_if(|stop| *stop <= prefilled);
            if stop == Some(prefilled)
                && let Ok(sequence) = i32::try_from(index)
            {
                self.save(sequence, prefilled);
            }
        }
    }

    /// Saves what cannot be cut of a sequence, which has so many tokens.
    pub(super) fn save(&mut self, sequence: i32, tokens: usize) -> Option<Rc<SeqState>> {
        let flags = LlamaStateSeqFlags::PARTIAL_ONLY;
        if self.context.state_seq_get_size_ext(sequence, flags) > CHECKPOINT_BYTES_MAX {
            return None;
        }
        match self.context.state_seq_get(sequence, flags) {
            Ok(state) => {
                let state = Rc::new(state);
                self.cache.checkpoints.add(Checkpoint {
                    sequence,
                    tokens,
                    state: Rc::clone(&state),
                });
                Some(state)
            }
            Err(error) => {
                tracing::error!(%error, "a sequence's state could not be saved");
                None
            }
        }
    }

    pub(super) const fn words(&self) -> Words<'_> {
        Words {
            vocabulary: self.vocabulary,
            markers: &self.cache.markers,
        }
    }

    /// A job will stop reading there for a moment.
    pub(super) fn plan_stop(&mut self, index: usize, tokens: usize) {
        if !self.cache.needs_checkpoints {
            return;
        }
        if let Some(seat) = self.cache.seat(index)
            && !seat.stops.contains(&tokens)
        {
            seat.stops.push(tokens);
            seat.stops.sort_unstable_by(|left, right| right.cmp(left));
        }
    }

    /// Chooses where a job's state is to be saved while it is read.
    pub(super) fn plan_checkpoints(&mut self, index: usize) {
        if !self.cache.needs_checkpoints || self.cache.is_following(index) {
            return;
        }
        let Some(slot) = self.slots.get(index).and_then(Option::as_ref) else {
            return;
        };
        let mut stops = self.boundaries(slot.context());
        if slot.may_reuse() {
            // What two conversations share, a third may share too.
            let parting = self.cache.entries.iter().map(|entry| {
                let found = common(self.words(), &entry.tokens, slot.context(), |_| true);
                found.wanted.min(slot.context().len().saturating_sub(1))
            });
            stops.extend(parting.max().filter(|tokens| *tokens >= SHARED_TOKENS_MIN));
        }
        stops.sort_unstable();
        let mut last = slot.prefilled();
        stops.retain(|stop| {
            let is_apart = *stop >= last + CHECKPOINT_TOKENS_APART;
            if is_apart {
                last = *stop;
            }
            is_apart
        });
        for stop in stops {
            self.plan_stop(index, stop);
        }
    }

    /// Where messages begin or end in a prompt, of all those the ones that other prompts may share: behind the system
    /// prompt, before the newest question, and before the answer.
    fn boundaries(&self, context: &[LlamaToken]) -> Vec<usize> {
        let vocab = self.model.vocab();
        let controls: Vec<usize> = (0..)
            .zip(context)
            .filter(|(place, token)| {
                // Pictures have ids that no vocabulary has.
                let is_text = token.0 < self.model.n_vocab();
                is_text && *place >= SHARED_TOKENS_MIN && vocab.is_control(**token)
            })
            .map(|(place, _)| place)
            .collect();
        // A question is written as its beginning, its end, and the beginning of the answer.
        let from_end = |back: usize| controls.len().checked_sub(back);
        let chosen = [Some(0), from_end(3), from_end(1)];
        chosen
            .into_iter()
            .flatten()
            .filter_map(|place| controls.get(place).copied())
            .collect()
    }
}
