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
mod words;

use std::rc::Rc;

use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::session::{LlamaStateSeqFlags, SeqState};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use protocol::PrefixHash;

use self::checkpoints::{CHECKPOINT_BYTES_MAX, Checkpoint, Checkpoints};
use self::common::{Common, common};
use self::entries::{Entries, Entry, joined};
use self::words::{Markers, Words};
use super::slot::Slot;
use super::{EngineEvent, JobKey, LlamaEngine};

/// Sequences that llama.cpp can tell apart.
pub(super) const SEQUENCES_MAX: u32 = 256;

/// Sharing fewer tokens gains less than a decode step.
const SHARED_TOKENS_MIN: usize = 32;

/// A job waits for another one's reading if it saves at least so much of its own.
const FOLLOWED_TOKENS_MIN: usize = 64;

/// Reading fewer tokens again costs less than a checkpoint.
const CHECKPOINT_TOKENS_APART: usize = 64;

/// Another job reads what this one wants to read.
#[derive(Debug, Clone, Copy)]
struct Follow {
    leader: usize,
    key: JobKey,
    /// So many tokens are the same.
    tokens: usize,
}

/// What is known of a running job's sequence.
#[derive(Debug, Default)]
struct Seat {
    /// What the relay calls the conversation once it is read.
    name: Option<PrefixHash>,
    /// What it calls the beginnings that were in the cache.
    older: Vec<PrefixHash>,
    follows: Option<Follow>,
    /// Where to stop reading for a checkpoint; the next place last.
    stops: Vec<usize>,
}

/// What the engine knows of its cache.
#[derive(Debug)]
pub(super) struct Cache {
    entries: Entries,
    checkpoints: Checkpoints,
    /// One for each slot.
    seats: Vec<Seat>,
    needs_checkpoints: bool,
    /// Tokens that no text is equal to.
    markers: Markers,
    told: Vec<PrefixHash>,
}

impl Cache {
    /// For an engine with so many slots and spare sequences behind them, whose warm-up token is still in sequence 0.
    pub(super) fn new(
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
    pub(super) fn first_words(&self) -> Option<EngineEvent> {
        let is_off = self.entries.is_off();
        is_off.then(|| EngineEvent::Cached(Vec::new()))
    }

    fn clear(&mut self) {
        while self.entries.remove_oldest().is_some() {}
        self.checkpoints.clear();
        self.seats.fill_with(Seat::default);
    }

    /// How many tokens a job may read in the next step, where it might read `share`.
    pub(super) fn share(&self, slot: usize, prefilled: usize, share: usize) -> usize {
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
    pub(super) fn is_following(&self, slot: usize) -> bool {
        self.seats
            .get(slot)
            .is_some_and(|seat| seat.follows.is_some())
    }

    fn seat(&mut self, slot: usize) -> Option<&mut Seat> {
        self.seats.get_mut(slot)
    }
}

/// How many sequences a context needs beside those of its slots.
pub(crate) fn spare_sequences(slots: u32, cached_conversations: u32) -> u32 {
    cached_conversations.min(SEQUENCES_MAX.saturating_sub(slots))
}

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

    /// Jobs that waited for another one's reading, and need not any more, share what it has read.
    pub(super) fn stop_following(&mut self) {
        for index in 0..self.slots.len() {
            let seat = self.cache.seats.get(index);
            let Some(follow) = seat.and_then(|seat| seat.follows) else {
                continue;
            };
            let leader = self.slots.get(follow.leader).and_then(Option::as_ref);
            let is_reading = leader.is_some_and(|leader| {
                leader.key() == follow.key
                    && !leader.is_paused()
                    && leader.is_reading()
                    && leader.prefilled() < follow.tokens
            });
            if is_reading {
                continue;
            }
            if let Some(seat) = self.cache.seat(index) {
                seat.follows = None;
            }
            self.reuse(index);
            self.plan_checkpoints(index);
        }
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

    /// Makes room for what is evaluated next: running jobs win. Together they never need more than all cells, since each
    /// keeps to its slot's context.
    pub(super) fn make_room(&mut self, tokens: usize) {
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
    pub(super) fn decode(&mut self) -> Result<(), DecodeError> {
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

    /// Saves states of sequences that have just been read up to where they should be saved.
    pub(super) fn save_checkpoints(&mut self) {
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
    fn save(&mut self, sequence: i32, tokens: usize) -> Option<Rc<SeqState>> {
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

    /// Shares the longest beginning of a job's context that is in the cache, if that is more than it has.
    fn reuse(&mut self, index: usize) {
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

    const fn words(&self) -> Words<'_> {
        Words {
            vocabulary: self.vocabulary,
            markers: &self.cache.markers,
        }
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

    /// Finds another job that is about to read the same beginning.
    fn follow(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index).and_then(Option::as_ref) else {
            return;
        };
        if !slot.may_reuse() {
            return;
        }
        let least = slot.prefilled() + FOLLOWED_TOKENS_MIN;
        let wanted = slot.context();
        let leaders = self.slots.iter().enumerate().filter_map(|(leader, other)| {
            let other = other
                .as_ref()
                .filter(|other| other.is_reading() && !other.is_paused())?;
            let same = other
                .context()
                .iter()
                .zip(wanted)
                .take_while(|(left, right)| left == right);
            let tokens = same.count().min(wanted.len().saturating_sub(1));
            (leader != index && tokens >= least && tokens > other.prefilled()).then_some(Follow {
                leader,
                key: other.key(),
                tokens,
            })
        });
        let found = leaders.reduce(|best, other| {
            if other.tokens > best.tokens {
                other
            } else {
                best
            }
        });
        if let Some(follow) = found {
            if let Some(seat) = self.cache.seat(index) {
                seat.follows = Some(follow);
            }
            self.plan_stop(follow.leader, follow.tokens);
        }
    }

    /// A job will stop reading there for a moment.
    fn plan_stop(&mut self, index: usize, tokens: usize) {
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
    fn plan_checkpoints(&mut self, index: usize) {
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

    /// llama.cpp's cache was emptied.
    pub(super) fn forget_cached(&mut self) {
        self.cache.clear();
        self.tell_names();
    }

    fn evict_oldest(&mut self) -> bool {
        let oldest = self.cache.entries.remove_oldest();
        if let Some(entry) = &oldest {
            self.empty(entry.sequence);
        }
        oldest.is_some()
    }

    fn evict(&mut self, sequence: i32) -> Option<Entry> {
        let entry = self.cache.entries.remove(sequence)?;
        self.empty(sequence);
        Some(entry)
    }

    /// `to`, which is empty, begins like `from`, for so many tokens.
    fn copy(&mut self, from: i32, to: i32, tokens: usize) {
        let end = u32::try_from(tokens).ok();
        // Fails only for places beyond what fits an i32.
        drop(self.context.copy_kv_cache_seq(from, to, Some(0), end));
    }

    fn empty(&mut self, sequence: i32) {
        self.cache.checkpoints.forget(sequence);
        let emptied = u32::try_from(sequence)
            .ok()
            .map(|sequence| self.context.clear_kv_cache_seq(Some(sequence), None, None));
        if !matches!(emptied, Some(Ok(true))) {
            tracing::error!(sequence, "a sequence could not be emptied");
        }
    }

    /// Tells the relay what is in the cache, if that is something else than before.
    fn tell_names(&mut self) {
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
