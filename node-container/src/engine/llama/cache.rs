//! The prefix cache: what was read once is not read again.
//!
//! ```text
//! a job ends   ─▶ keep:   its sequence, prompt and answer, becomes an entry (a spare sequence of the KV cache)
//! a job begins ─▶ reuse:  the longest beginning that an entry or a running job holds is shared with its sequence
//!                 follow: where another job is just reading the same beginning, it waits for that one to have read it
//! each step    ─▶ room:   entries go, the least recently used first, before cells run short
//! ```
//! Sharing costs no cells and copies nothing: llama.cpp notes that a cell belongs to two sequences. A conversation that
//! goes on takes its entry over.
//!
//! **Checkpoints.** Some models' caches cannot be cut anywhere: a sliding window has forgotten what lies before it, a
//! recurrent state has no parts. Of such a model an entry can be taken over whole, and cut only where its state was
//! saved: while a prompt is read, at a few message boundaries and where it leaves what another conversation says.

mod checkpoints;
mod common;
mod entries;
mod following;
mod reuse;
mod room;
mod saving;
mod state;
mod words;

use llama_cpp_2::token::LlamaToken;
use protocol::PrefixHash;

use self::entries::{Entry, joined};
use self::state::{SHARED_TOKENS_MIN, Seat};
use super::LlamaEngine;
use super::slot::Slot;

pub(crate) use self::checkpoints::{CHECKPOINT_BYTES_MAX, CHECKPOINTS_MAX};
pub(super) use self::state::Cache;

/// Sequences that llama.cpp can tell apart.
pub(super) const SEQUENCES_MAX: u32 = 256;

/// How many sequences a context needs beside those of its slots.
pub(crate) fn spare_sequences(slots: u32, cached_conversations: u32) -> u32 {
    cached_conversations.min(SEQUENCES_MAX.saturating_sub(slots))
}

impl LlamaEngine<'_> {
    /// A job has taken its slot: shares what is there of its context.
    pub(super) fn begin_sharing(&mut self, index: usize, name: Option<PrefixHash>) {
        let Some(seat) = self.cache.seat(index) else {
            return;
        };
        *seat = Seat {
            name,
            ..Seat::default()
        };
        if self.cache.entries.is_off() {
            return;
        }
        self.reuse(index);
        self.follow(index);
        self.plan_checkpoints(index);
    }

    /// A job has ended or was stopped: what is evaluated of it stays, if it can be of use. Its sequence is free then.
    pub(super) fn keep(&mut self, index: usize, slot: &Slot) {
        let Ok(from) = i32::try_from(index) else {
            return;
        };
        let seat = self
            .cache
            .seat(index)
            .map(std::mem::take)
            .unwrap_or_default();
        let name = seat.name.filter(|_| slot.has_read());
        let names = joined(name.as_slice(), &seat.older);
        let tokens = slot.evaluated();
        if tokens.len() >= SHARED_TOKENS_MIN && !self.cache.entries.is_off() {
            if let Some(sequence) = self.cache.entries.holding(&tokens) {
                self.cache.entries.name(sequence, &names);
                self.cache.entries.touch(sequence);
            } else {
                self.add_entry(from, tokens, names);
            }
        }
        self.empty(from);
        self.tell_names();
    }

    fn add_entry(&mut self, from: i32, tokens: Vec<LlamaToken>, mut names: Vec<PrefixHash>) {
        while let Some(part) = self.cache.entries.held_by(&tokens) {
            if let Some(part) = self.evict(part) {
                names = joined(&names, &part.names);
            }
        }
        let sequence = self.cache.entries.take_free().or_else(|| {
            self.evict_oldest();
            self.cache.entries.take_free()
        });
        let Some(sequence) = sequence else {
            return;
        };
        self.copy(from, sequence, tokens.len());
        self.cache.checkpoints.share(from, sequence, tokens.len());
        self.cache.entries.add(Entry {
            sequence,
            tokens,
            names,
        });
    }
}
