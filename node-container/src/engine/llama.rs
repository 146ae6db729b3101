//! llama.cpp in process: one context, one unified KV cache, one sequence per slot.
//!
//! Every step evaluates one batch that holds the newest token of each answering job and, beside it, a piece of each
//! prompt that is still being read. So jobs join and leave at any step, and a long prompt slows others down a little
//! instead of stopping them. Rendering and tokenising, which take seconds for prompts of megabytes, happen on a thread
//! of their own ([`reader`]).
//!
//! Rules that callers see:
//! - Prompt and answer together fit the slot's context. There is no context shift: at its end an answer ends with
//!   `length`, and a `max_tokens` that would go beyond it is cut down to what is left.
//! - On an otherwise idle engine the same request with the same seed gives the same text: batch sizes and threads are
//!   fixed once the engine has started ([`tuning`]), and a request that names a seed takes nothing from the cache. That
//!   is exact where its cells lie alike, as in an empty cache. Among cells of other conversations, or without a seed,
//!   where the beginning of the prompt may have been read in other pieces for another job ([`cache`]), numbers differ in
//!   their last digits, and now and then another token is the likeliest.
//! - An answer that another attempt began goes on at that very byte ([`given`]). It costs a prompt's reading of what is
//!   known, and one decode step for each token of its end that is open.
//! - A paused job keeps its slot and its place in the cache, and is left out of decode steps.

mod cache;
mod context;
mod load;
mod look;
mod looking;
pub mod perplexity;
mod pictures;
mod reader;
mod sharing;
mod slot;
pub mod truth;
mod vectors;
mod wake;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::Instant;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use protocol::{ErrorCode, Failure, FinishReason, JobRequest, PrefixHash, Usage};

use super::tuning::{self, PromptBatch};
use super::vision::Projector;
use super::{Command, Engine, EngineEvent, JobKey};
use cache::Cache;
use chat_format::vocabulary::Vocabulary;
use reader::{Done, Job, Prepared, Task, Ticket};
use sharing::Prompt;
use slot::{Ending, Slot};

pub(crate) use cache::{CHECKPOINT_BYTES_MAX, CHECKPOINTS_MAX, spare_sequences};
pub(crate) use context::vector_batch_tokens;
pub(crate) use load::backend::backend;
pub use load::{
    CacheType, LlamaOptions, LoadError, Loaded, Spawned, devices, spawn, with_vocabulary,
};
pub use looking::look_at;

/// Tokens of one batch at most: every slot's newest one, and a piece of a prompt.
const BATCH_TOKENS_MAX: usize =
    protocol::limits::NODE_SLOTS_MAX as usize + tuning::PROMPT_BATCH_MAX as usize;

/// Decode steps that fail one after another before the engine gives up.
const FAILURES_MAX: u32 = 3;

/// A job whose prompt is being tokenised.
#[derive(Debug)]
struct Reading {
    key: JobKey,
    ticket: Ticket,
    is_stopped: bool,
    is_paused: bool,
    /// What the relay calls the conversation once it is read.
    prefix: Option<PrefixHash>,
}

/// The engine proper; lives on its own thread, inside [`spawn`].
struct LlamaEngine<'m> {
    model: &'m LlamaModel,
    vocabulary: &'m Vocabulary,
    /// For models that see.
    projector: Option<&'m Projector<'m>>,
    context: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    context_tokens: u32,
    prompt_batch: PromptBatch,
    /// What of it is read beside answers at present.
    beside: u32,
    /// Prompts that the next step reads; a buffer.
    prompts: Vec<Prompt>,
    /// How many jobs were admitted.
    admitted: u64,
    /// Each has a slot in hand until the reader is done with it.
    reading: Vec<Reading>,
    reader: Sender<Task>,
    done: Receiver<Done>,
    /// The index is the slot's sequence in the KV cache.
    slots: Vec<Option<Slot>>,
    cache: Cache,
    events: VecDeque<EngineEvent>,
    /// Failed steps since the last good one.
    failures: u32,
    /// See [`LlamaOptions::break_while`].
    break_while: Option<PathBuf>,
    is_reader_gone: bool,
}

impl LlamaEngine<'_> {
    fn start(&mut self, job: Job, prefix: Option<PrefixHash>) {
        let key = job.key;
        let taken = self.reading.len() + self.slots.iter().flatten().count();
        let ticket = Ticket::default();
        let task = Task::Prepare(ticket.clone(), job);
        let refused = if taken >= self.slots.len() {
            Some("all slots of this node are busy")
        } else if self.reader.send(task).is_err() {
            Some("the node's engine could not go on")
        } else {
            self.reading.push(Reading {
                key,
                ticket,
                is_stopped: false,
                is_paused: false,
                prefix,
            });
            None
        };
        if let Some(message) = refused {
            let failure = Failure::new(ErrorCode::EngineFailed, message);
            self.events.push_back(EngineEvent::Failed { key, failure });
        }
    }

    fn check(&mut self, check: u32, request: Box<JobRequest>) {
        if self.reader.send(Task::Check(check, request)).is_err() {
            let failure =
                Failure::new(ErrorCode::EngineFailed, "the node's engine could not go on");
            self.events.push_back(EngineEvent::Checked {
                check,
                failure: Some(failure),
            });
        }
    }

    /// Takes over what the reader has done.
    fn collect(&mut self) {
        loop {
            match self.done.try_recv() {
                Ok(Done::Prepared(key, prepared)) => self.admit(key, prepared),
                Ok(Done::Checked(check, failure)) => self
                    .events
                    .push_back(EngineEvent::Checked { check, failure }),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.is_reader_gone = true;
                    return;
                }
            }
        }
    }

    fn admit(&mut self, key: JobKey, prepared: Result<Box<Prepared>, Failure>) {
        let Some(index) = self.reading.iter().position(|reading| reading.key == key) else {
            return;
        };
        let reading = self.reading.swap_remove(index);
        if reading.is_stopped {
            let usage = Usage::default();
            self.events.push_back(EngineEvent::Cancelled { key, usage });
            return;
        }
        let Prepared { mut slot, over } = match prepared {
            Ok(prepared) => *prepared,
            Err(failure) => {
                self.events.push_back(EngineEvent::Failed { key, failure });
                return;
            }
        };
        self.events.push_back(EngineEvent::Accepted {
            key,
            prompt_tokens: slot.prompt_tokens(),
            context_tokens: self.context_tokens,
        });
        if let Some(finish_reason) = over {
            self.end_at_once(slot, finish_reason);
            return;
        }
        slot.pause(reading.is_paused);
        self.admitted += 1;
        slot.set_number(self.admitted);
        // There is one: jobs in the reader count as taken slots.
        let mut places = self.slots.iter_mut().enumerate();
        if let Some((index, place)) = places.find(|(_, place)| place.is_none()) {
            *place = Some(slot);
            self.begin_sharing(index, reading.prefix);
        }
    }

    /// The answer had reached its end before; only that was not known.
    fn end_at_once(&mut self, mut slot: Slot, finish_reason: FinishReason) {
        let mut advances = Vec::new();
        slot.last_words(&mut advances);
        if !advances.is_empty() {
            self.events.push_back(EngineEvent::Step(advances));
        }
        self.events.push_back(EngineEvent::Finished {
            key: slot.key(),
            finish_reason,
            usage: slot.usage(),
        });
    }

    fn pause(&mut self, key: JobKey, is_paused: bool) {
        for reading in &mut self.reading {
            if reading.key == key {
                reading.is_paused = is_paused;
            }
        }
        for slot in self.slots.iter_mut().flatten() {
            if slot.key() == key {
                slot.pause(is_paused);
            }
        }
    }

    fn stop(&mut self, key: JobKey) {
        let reading = self
            .reading
            .iter_mut()
            .enumerate()
            .find(|(_, reading)| reading.key == key);
        if let Some((index, reading)) = reading {
            if reading.ticket.cancel() {
                self.reading.swap_remove(index);
                let usage = Usage::default();
                self.events.push_back(EngineEvent::Cancelled { key, usage });
            } else {
                // Its slot is free when the reader is.
                reading.is_stopped = true;
            }
            return;
        }
        let found = (0..).zip(&mut self.slots).find_map(|(index, slot)| {
            let slot = slot.take_if(|slot| slot.key() == key)?;
            Some((index, slot))
        });
        if let Some((index, slot)) = found {
            self.events.push_back(EngineEvent::Cancelled {
                key,
                usage: slot.usage(),
            });
            self.keep(index, &slot);
        }
    }

    /// Whether an answer waits for the next step.
    fn is_answering(&self) -> bool {
        let mut active = self.slots.iter().flatten().filter(|slot| !slot.is_paused());
        active.any(|slot| !slot.is_reading())
    }

    /// Finds the prompts of which text can be read.
    fn find_prompts(&mut self) {
        self.prompts.clear();
        for (place, slot) in self.slots.iter().enumerate() {
            let Some(slot) = slot else { continue };
            if slot.is_paused() || !slot.is_reading() || self.cache.is_following(place) {
                continue;
            }
            let readable = self.cache.share(place, slot.prefilled(), slot.readable());
            if readable > 0 {
                self.prompts.push(Prompt {
                    place,
                    number: slot.number(),
                    unread: slot.unread(),
                    readable,
                    share: 0,
                });
            }
        }
    }

    /// Fills the batch, with so many tokens of prompts; `false` where llama.cpp's batch refused a token.
    fn compose(&mut self, tokens: usize) -> bool {
        self.batch.clear();
        self.find_prompts();
        sharing::divide(tokens, &mut self.prompts);
        let mut fits = true;
        for (place, (sequence, slot)) in (0i32..).zip(&mut self.slots).enumerate() {
            if let Some(slot) = slot {
                let prompt = self.prompts.iter().find(|prompt| prompt.place == place);
                let share = prompt.map_or(0, |prompt| prompt.share);
                fits &= slot.plan(&mut self.batch, sequence, share);
            }
        }
        fits
    }

    /// Reads what the batch gave.
    fn harvest(&mut self) {
        let mut advances = Vec::new();
        let (mut endings, mut ended) = (Vec::new(), Vec::new());
        for (index, place) in self.slots.iter_mut().enumerate() {
            let Some(slot) = place else { continue };
            if let Some(prefilled_tokens) = slot.note_prefilled() {
                self.events.push_back(EngineEvent::Progress {
                    key: slot.key(),
                    prefilled_tokens,
                });
            }
            let ending = slot.take_token(&self.context, self.model, self.vocabulary, &mut advances);
            if let Some(ending) = ending
                && let Some(slot) = place.take()
            {
                endings.push(match ending {
                    Ending::Finished(finish_reason) => EngineEvent::Finished {
                        key: slot.key(),
                        finish_reason,
                        usage: slot.usage(),
                    },
                    Ending::TooSlow => EngineEvent::Failed {
                        key: slot.key(),
                        failure: Failure::new(
                            ErrorCode::InvalidRequest,
                            "holding this answer to the response format takes too long; use fewer alternatives and repetitions in the schema",
                        )
                        .with_param("response_format"),
                    },
                    Ending::Broken => EngineEvent::Failed {
                        key: slot.key(),
                        failure: Failure::new(
                            ErrorCode::EngineFailed,
                            "the model found no next token for this answer; try again, or simplify the response format",
                        ),
                    },
                });
                ended.push((index, slot));
            }
        }
        if !advances.is_empty() {
            self.events.push_back(EngineEvent::Step(advances));
        }
        self.events.extend(endings);
        for (index, slot) in ended {
            self.keep(index, &slot);
        }
        self.save_checkpoints();
    }

    /// The batch could not be evaluated, and the cache is in an unknown state: every job breaks, the next ones start afresh.
    fn fail_all(&mut self, why: &str) {
        self.failures += 1;
        tracing::error!(why, "decode failed");
        for slot in self.slots.iter_mut().filter_map(Option::take) {
            self.events.push_back(EngineEvent::Failed {
                key: slot.key(),
                failure: Failure::new(
                    ErrorCode::EngineFailed,
                    "the node's engine could not go on; try again",
                ),
            });
        }
        self.context.clear_kv_cache();
        self.forget_cached();
    }
}

impl Engine for LlamaEngine<'_> {
    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Start {
                key,
                model,
                request,
                answer,
                prefix,
            } => {
                let job = Job {
                    key,
                    model,
                    request,
                    answer,
                };
                self.start(job, prefix);
            }
            Command::Pause { key } => self.pause(key, true),
            Command::Unpause { key } => self.pause(key, false),
            Command::Stop { key } => self.stop(key),
            Command::Check { check, request } => self.check(check, request),
            Command::Wake => self.collect(),
            Command::Shutdown => {}
        }
    }

    fn is_idle(&self) -> bool {
        self.slots.iter().flatten().all(Slot::is_paused)
    }

    fn is_dead(&self) -> bool {
        self.is_reader_gone || self.failures >= FAILURES_MAX
    }

    fn step(&mut self) {
        self.stop_following();
        let began = Instant::now();
        let is_beside = self.is_answering();
        let tokens = if is_beside {
            self.beside
        } else {
            self.prompt_batch.alone
        };
        let tokens = usize::try_from(tokens).unwrap_or(1);
        let Ok(seen) = self.look(tokens) else {
            self.fail_all("a picture could not be decoded");
            return;
        };
        if !self.compose(tokens.saturating_sub(seen)) {
            self.fail_all("the batch is full");
            return;
        }
        if self.batch.n_tokens() == 0 {
            return;
        }
        // More than the step's tokens are those of a picture that cannot be cut: nothing can be learnt of its time.
        let has_read = seen > 0 || !self.prompts.is_empty();
        let is_telling = is_beside && has_read && seen <= tokens;
        if self.break_while.as_deref().is_some_and(Path::exists) {
            self.fail_all("a test wants it");
            return;
        }
        match self.decode() {
            Ok(()) => {
                self.failures = 0;
                self.harvest();
                // A graphics card is done when its numbers are read.
                if is_telling {
                    self.beside = self.prompt_batch.after(self.beside, began.elapsed());
                }
            }
            Err(error) => self.fail_all(&error.to_string()),
        }
    }

    fn poll_event(&mut self) -> Option<EngineEvent> {
        self.events.pop_front()
    }
}
