//! llama.cpp in process: one context, one unified KV cache, one sequence per slot.
//!
//! Every step evaluates one batch that holds the newest token of each answering job and, beside it, a piece of each
//! prompt that is still being read. So jobs join and leave at any step, and a long prompt slows others down a little
//! instead of stopping them.
//!
//! Rules that callers see:
//! - Prompt and answer together fit the slot's context. There is no context shift: at its end an answer ends with
//!   `length`, and a `max_tokens` that would go beyond it is cut down to what is left.
//! - On an otherwise idle engine the same request with the same seed gives the same text: batch sizes and threads are
//!   fixed, and no prefix is taken from a cache.

mod load;
mod slot;

use std::collections::VecDeque;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use protocol::{ChatRequest, ErrorCode, Failure};

use super::answer::Answer;
use super::sampling::{Defaults, Sampler};
use super::template::ChatTemplate;
use super::{Command, Engine, EngineEvent, JobKey};
use slot::{Ending, Slot};

pub use load::{LlamaOptions, LoadError, Loaded, spawn};

/// Prompt tokens per step while nobody is answering: large enough for full speed, small enough that `Stop` is prompt
/// on one slow thread.
const PREFILL_TOKENS_ALONE: usize = 256;

/// Prompt tokens per step beside running answers: they wait this much longer for each token.
const PREFILL_TOKENS_BESIDE: usize = 64;

/// Tokens of one batch at most: every slot's newest one, and a piece of a prompt.
const BATCH_TOKENS_MAX: usize = protocol::limits::NODE_SLOTS_MAX as usize + PREFILL_TOKENS_ALONE;

/// The engine proper; lives on its own thread, inside [`spawn`].
struct LlamaEngine<'m> {
    model: &'m LlamaModel,
    context: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    template: ChatTemplate,
    defaults: Defaults,
    context_tokens: u32,
    /// The index is the slot's sequence in the KV cache.
    slots: Vec<Option<Slot>>,
    events: VecDeque<EngineEvent>,
}

impl LlamaEngine<'_> {
    fn start(&mut self, key: JobKey, request: &ChatRequest) {
        match self.admit(key, request) {
            Ok(slot) => {
                self.events.push_back(EngineEvent::Accepted {
                    key,
                    prompt_tokens: slot.prompt_tokens(),
                    context_tokens: self.context_tokens,
                });
                if let Some(free) = self.slots.iter_mut().find(|slot| slot.is_none()) {
                    *free = Some(slot);
                }
            }
            Err(failure) => self.events.push_back(EngineEvent::Failed { key, failure }),
        }
    }

    fn admit(&self, key: JobKey, request: &ChatRequest) -> Result<Slot, Failure> {
        request.validate().map_err(|invalid| {
            Failure::new(ErrorCode::InvalidRequest, invalid.message).with_param(invalid.param)
        })?;
        if self.slots.iter().all(Option::is_some) {
            return Err(Failure::new(
                ErrorCode::EngineFailed,
                "all slots of this node are busy",
            ));
        }
        let prompt = self.tokenise(request)?;
        let length = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let left = self.context_tokens.saturating_sub(length);
        if left == 0 {
            return Err(Failure::new(
                ErrorCode::ContextLengthExceeded,
                format!(
                    "the prompt has {length} tokens, but this model's context is {} tokens, and the answer needs at least one of them; shorten the conversation",
                    self.context_tokens
                ),
            )
            .with_param("messages"));
        }
        let answer_tokens_max = request.max_tokens.map_or(left, |most| most.min(left));
        let seed = getrandom::u64().map_err(|_| {
            Failure::new(
                ErrorCode::EngineFailed,
                "the node has no source of randomness",
            )
        })?;
        let sampler = Sampler::new(self.model, self.defaults, request, answer_tokens_max, seed)?;
        Ok(Slot::new(
            key,
            prompt,
            answer_tokens_max,
            sampler,
            Answer::new(key, &request.stop),
            request.top_logprobs,
        ))
    }

    fn tokenise(&self, request: &ChatRequest) -> Result<Vec<LlamaToken>, Failure> {
        let prompt = self.template.render(&request.messages)?;
        let vocab = self.model.vocab();
        let mut tokens = Vec::new();
        for piece in prompt.pieces.iter().filter(|piece| !piece.is_empty()) {
            tokens.extend(vocab.tokenize(piece.as_bytes(), false, true));
        }
        // Many templates write the beginning-of-sequence token themselves; twice would confuse the model.
        if vocab.should_add_bos() && tokens.first() != Some(&vocab.bos()) {
            tokens.insert(0, vocab.bos());
        }
        if tokens.is_empty() {
            return Err(Failure::new(
                ErrorCode::InvalidRequest,
                "the conversation renders to an empty prompt",
            )
            .with_param("messages"));
        }
        Ok(tokens)
    }

    fn stop(&mut self, key: JobKey) {
        let found = self
            .slots
            .iter_mut()
            .find_map(|slot| slot.take_if(|slot| slot.key() == key));
        if let Some(slot) = found {
            self.events.push_back(EngineEvent::Cancelled {
                key,
                usage: slot.usage(),
            });
            self.forget_freed();
        }
    }

    /// Fills the batch; `false` where llama.cpp's batch refused a token.
    fn compose(&mut self) -> bool {
        self.batch.clear();
        let active = self.slots.iter().flatten();
        let reading = active.clone().filter(|slot| slot.is_reading()).count();
        let chunk = if reading == active.count() {
            PREFILL_TOKENS_ALONE
        } else {
            PREFILL_TOKENS_BESIDE
        };
        let share = chunk.checked_div(reading).unwrap_or(0).max(1);
        let mut fits = true;
        for (sequence, slot) in (0i32..).zip(&mut self.slots) {
            if let Some(slot) = slot {
                fits &= slot.plan(&mut self.batch, sequence, share);
            }
        }
        fits
    }

    /// Reads what the batch gave.
    fn harvest(&mut self) {
        let mut advances = Vec::new();
        let mut endings = Vec::new();
        for place in &mut self.slots {
            let Some(slot) = place else { continue };
            if let Some(prefilled_tokens) = slot.note_prefilled() {
                self.events.push_back(EngineEvent::Progress {
                    key: slot.key(),
                    prefilled_tokens,
                });
            }
            let ending = slot.take_token(&self.context, self.model, &mut advances);
            if let Some(ending) = ending
                && let Some(slot) = place.take()
            {
                endings.push(match ending {
                    Ending::Finished(finish_reason) => EngineEvent::Finished {
                        key: slot.key(),
                        finish_reason,
                        usage: slot.usage(),
                    },
                    Ending::Broken => EngineEvent::Failed {
                        key: slot.key(),
                        failure: Failure::new(
                            ErrorCode::EngineFailed,
                            "the model found no next token for this answer; try again, or simplify the response format",
                        ),
                    },
                });
            }
        }
        if !advances.is_empty() {
            self.events.push_back(EngineEvent::Step(advances));
        }
        if !endings.is_empty() {
            self.events.extend(endings);
            self.forget_freed();
        }
    }

    /// The batch could not be evaluated, and the cache is in an unknown state: every job breaks, the next ones start afresh.
    fn fail_all(&mut self, why: &str) {
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
    }

    /// Empties the cache of every slot without a job.
    fn forget_freed(&mut self) {
        for (sequence, slot) in (0u32..).zip(&self.slots) {
            if slot.is_none()
                && let Err(error) = self.context.clear_kv_cache_seq(Some(sequence), None, None)
            {
                tracing::error!(%error, sequence, "a slot's cache could not be emptied");
            }
        }
    }
}

impl Engine for LlamaEngine<'_> {
    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Start { key, request } => self.start(key, &request),
            Command::Stop { key } => self.stop(key),
            Command::Shutdown => {}
        }
    }

    fn is_idle(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    fn step(&mut self) {
        if !self.compose() {
            self.fail_all("the batch is full");
            return;
        }
        if self.batch.n_tokens() == 0 {
            return;
        }
        match self.context.decode(&mut self.batch) {
            Ok(()) => self.harvest(),
            Err(error) => self.fail_all(&error.to_string()),
        }
    }

    fn poll_event(&mut self) -> Option<EngineEvent> {
        self.events.pop_front()
    }
}
