//! What the engine knows of its cache, and of the running jobs' sequences.

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::session::LlamaStateSeqFlags;
use llama_cpp_2::model::LlamaModel;
use protocol::PrefixHash;

use super::checkpoints::Checkpoints;
use super::entries::Entries;
use super::words::Markers;
use crate::engine::{EngineEvent, JobKey};

/// Sharing fewer tokens gains less than a decode step.
pub(super) const SHARED_TOKENS_MIN: usize = 32;

/// Another job reads what this one wants to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Follow {
    pub(super) leader: usize,
    pub(super) key: JobKey,
    /// So many tokens are the same.
    pub(super) tokens: usize,
}

/// What is known of a running job's sequence.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// What the relay calls the conversation once it is read.
    pub(super) name: Option<PrefixHash>,
    /// What it calls the beginnings that were in the cache.
    pub(super) older: Vec<PrefixHash>,
    pub(super) follows: Option<Follow>,
    /// Where to stop reading for a checkpoint; the next place last.
    pub(super) stops: Vec<usize>,
}

/// What the engine knows of its cache.
#[derive(Debug)]
pub(in crate::engine::llama) struct Cache {
    pub(super) entries: Entries,
    pub(super) checkpoints: Checkpoints,
    /// One for each slot.
    pub(super) seats: Vec<Seat>,
    pub(super) needs_checkpoints: bool,
    /// Tokens that no text is equal to.
    pub(super) markers: Markers,
    pub(super) told: Vec<PrefixHash>,
}

impl Cache {
    /// For an engine with so many slots and spare sequences behind them, whose warm-up token is still in sequence 0.
    pub(in crate::engine::llama) fn new(
        model: &LlamaModel,
        context: &LlamaContext<'_>,
        slots: usize,
        spares: u32,
    ) -> Self {
        let size = |flags| context.state_seq_get_size_ext(0, flags);
        // A state that has a part which cannot be cut is smaller than the whole.
        let has_windows =
            size(LlamaStateSeqFlags::PARTIAL_ONLY) != size(LlamaStateSeqFlags::empty());
        let first = i32::try_from(slots).unwrap_or(i32::MAX);
        let end = first.saturating_add(i32::try_from(spares).unwrap_or(0));
        Self {
            // The last one is taken first.
            entries: Entries::new((first..end).rev()),
            checkpoints: Checkpoints::default(),
            seats: (0..slots).map(|_| Seat::default()).collect(),
            needs_checkpoints: has_windows || model.is_recurrent() || model.is_hybrid(),
            markers: Markers::of_model(model),
            told: Vec::new(),
        }
    }

    /// What is to be told before anything is in the cache: that nothing ever will be, since a relay takes silence for a
    /// cache that it cannot see.
    pub(in crate::engine::llama) fn first_words(&self) -> Option<EngineEvent> {
        let is_off = self.entries.is_off();
        is_off.then(|| EngineEvent::Cached(Vec::new()))
    }

    pub(super) fn clear(&mut self) {
        while self.entries.remove_oldest().is_some() {}
        self.checkpoints.clear();
        self.seats.fill_with(Seat::default);
    }

    /// How many tokens a job may read in the next step, where it might read `share`.
    pub(in crate::engine::llama) fn share(
        &self,
        slot: usize,
        prefilled: usize,
        share: usize,
    ) -> usize {
        let Some(seat) = self.seats.get(slot) else {
            return share;
        };
        if seat.follows.is_some() {
            return 0;
        }
        let stop = seat
            .stops
            .last()
            .map_or(usize::MAX, |stop| stop.saturating_sub(prefilled));
        share.min(stop.max(1))
    }

    /// Whether a job waits for another one's reading.
    pub(in crate::engine::llama) fn is_following(&self, slot: usize) -> bool {
        self.seats
            .get(slot)
            .is_some_and(|seat| seat.follows.is_some())
    }

    pub(super) fn seat(&mut self, slot: usize) -> Option<&mut Seat> {
        self.seats.get_mut(slot)
    }
}
