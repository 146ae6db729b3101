//! What happens to llama.cpp's cache itself: sequences are copied and emptied, and entries go where cells run short.

use llama_cpp_2::DecodeError;
use protocol::PrefixHash;

use super::entries::Entry;
use crate::engine::EngineEvent;
use crate::engine::llama::LlamaEngine;
use crate::engine::llama::slot::Slot;

impl LlamaEngine<'_> {
    /// Makes room for what is evaluated next: running jobs win. Together they never need more than all cells, since each
    /// keeps to its slot's context.
    pub(in crate::engine::llama) fn make_room(&mut self, tokens: usize) {
        let cells = usize::try_from(self.context.n_ctx()).unwrap_or(usize::MAX);
        let running: usize = self
            .slots
            .iter()
            .flatten()
            .map(Slot::evaluated_tokens)
            .sum();
        let wanted = running + tokens;
        let mut is_less = false;
        while wanted + self.cache.entries.tokens() > cells && self.evict_oldest() {
            is_less = true;
        }
        if is_less {
            self.tell_names();
        }
    }

    /// Evaluates the batch. Should cells run short all the same, every entry goes before a job does.
    pub(in crate::engine::llama) fn decode(&mut self) -> Result<(), DecodeError> {
        self.make_room(usize::try_from(self.batch.n_tokens()).unwrap_or(0));
        match self.context.decode(&mut self.batch) {
            Err(DecodeError::NoKvCacheSlot) if self.evict_oldest() => {
                tracing::warn!("the cache was full too early: all conversations in it are dropped");
                while self.evict_oldest() {}
                self.tell_names();
                self.context.decode(&mut self.batch)
            }
            done => done,
        }
    }

    /// llama.cpp's cache was emptied.
    pub(in crate::engine::llama) fn forget_cached(&mut self) {
        self.cache.clear();
        self.tell_names();
    }

    pub(super) fn evict_oldest(&mut self) -> bool {
        let oldest = self.cache.entries.remove_oldest();
        if let Some(entry) = &oldest {
            self.empty(entry.sequence);
        }
        oldest.is_some()
    }

    pub(super) fn evict(&mut self, sequence: i32) -> Option<Entry> {
        let entry = self.cache.entries.remove(sequence)?;
        self.empty(sequence);
        Some(entry)
    }

    /// `to`, which is empty, begins like `from`, for so many tokens.
    pub(super) fn copy(&mut self, from: i32, to: i32, tokens: usize) {
        let end = u32::try_from(tokens).ok();
        // Fails only for places beyond what fits an i32.
        drop(self.context.copy_kv_cache_seq(from, to, Some(0), end));
    }

    pub(super) fn empty(&mut self, sequence: i32) {
        self.cache.checkpoints.forget(sequence);
        let emptied = u32::try_from(sequence)
            .ok()
            .map(|sequence| self.context.clear_kv_cache_seq(Some(sequence), None, None));
        if !matches!(emptied, Some(Ok(true))) {
            tracing::error!(sequence, "a sequence could not be emptied");
        }
    }

    /// Tells the relay what is in the cache, if that is something else than before.
    pub(super) fn tell_names(&mut self) {
        let entries = self.cache.entries.iter().flat_map(|entry| &entry.names);
        let running = self
            .slots
            .iter()
            .zip(&self.cache.seats)
            .filter(|(slot, _)| slot.is_some());
        let running = running.flat_map(|(_, seat)| &seat.older);
        let mut names: Vec<PrefixHash> = Vec::new();
        for name in entries.chain(running) {
            if !names.contains(name) {
                names.push(*name);
            }
        }
        if names != self.cache.told {
            self.cache.told.clone_from(&names);
            self.events.push_back(EngineEvent::Cached(names));
        }
    }
}
