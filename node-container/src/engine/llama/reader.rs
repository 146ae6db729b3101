//! The thread that prepares jobs: checks, renders, tokenises, compiles grammars. The decode loop never waits for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use protocol::{ChatRequest, ErrorCode, Failure};
use tokio::sync::mpsc::WeakUnboundedSender;

use super::slot::Slot;
use crate::engine::answer::Answer;
use crate::engine::sampling::{Defaults, Sampler};
use crate::engine::template::ChatTemplate;
use crate::engine::{Command, JobKey};

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const CANCELLED: u8 = 2;

/// Where the reader and the engine agree whether a job is still to be read.
#[derive(Debug, Clone, Default)]
pub(super) struct Ticket(Arc<AtomicU8>);

impl Ticket {
    /// Whether the reader has not begun, and now never will.
    pub(super) fn cancel(&self) -> bool {
        self.0
            .compare_exchange(WAITING, CANCELLED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Whether it may be read.
    fn begin(&self) -> bool {
        self.0
            .compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// What the reader is given.
#[derive(Debug)]
pub(super) enum Task {
    /// Make this a job that can be decoded, unless it is cancelled before.
    Prepare(JobKey, Ticket, Box<ChatRequest>),
    /// Find out whether it could be made one.
    Check(u32, Box<ChatRequest>),
}

/// What the reader gives back: jobs before questions, else in the same order.
#[derive(Debug)]
pub(super) enum Done {
    Prepared(JobKey, Result<Box<Slot>, Failure>),
    Checked(u32, Option<Failure>),
}

/// Everything about a model that preparing a job needs.
#[derive(Debug)]
pub(super) struct Reader<'m> {
    model: &'m LlamaModel,
    template: ChatTemplate,
    defaults: Defaults,
    context_tokens: u32,
    /// Bytes of the longest text of one token.
    piece_bytes_max: usize,
}

impl<'m> Reader<'m> {
    pub(super) fn new(model: &'m LlamaModel, template: ChatTemplate, context_tokens: u32) -> Self {
        let vocab = model.vocab();
        let piece_bytes_max = vocab
            .tokens()
            .map(|token| vocab.token_to_piece(token, true, None).len())
            .max();
        Self {
            model,
            template,
            defaults: Defaults::of_model(model),
            context_tokens,
            piece_bytes_max: piece_bytes_max.unwrap_or(1).max(1),
        }
    }

    /// Works until the engine is gone. The weak sender does not keep the engine's loop alive.
    pub(super) fn run(
        &self,
        tasks: &Receiver<Task>,
        done: &Sender<Done>,
        engine: &WeakUnboundedSender<Command>,
    ) {
        let (mut jobs, mut questions) = (VecDeque::new(), VecDeque::new());
        loop {
            let task = if jobs.is_empty() && questions.is_empty() {
                tasks.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                tasks.try_recv()
            };
            match task {
                Ok(task @ Task::Prepare(..)) => {
                    jobs.push_back(task);
                    continue;
                }
                Ok(task @ Task::Check(..)) => {
                    questions.push_back(task);
                    continue;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            let Some(task) = jobs.pop_front().or_else(|| questions.pop_front()) else {
                continue;
            };
            let result = match task {
                Task::Prepare(_, ticket, _) if !ticket.begin() => continue,
                Task::Prepare(key, _, request) => {
                    Done::Prepared(key, self.prepare(key, &request).map(Box::new))
                }
                // The key names nothing: the slot is dropped at once.
                Task::Check(check, request) => {
                    Done::Checked(check, self.prepare(JobKey(0), &request).err())
                }
            };
            if done.send(result).is_err() {
                return;
            }
            if let Some(engine) = engine.upgrade() {
                // Fails where the loop has ended, which ends the tasks too.
                drop(engine.send(Command::Wake));
            }
        }
    }

    fn prepare(&self, key: JobKey, request: &ChatRequest) -> Result<Slot, Failure> {
        request.validate().map_err(|invalid| {
            Failure::new(ErrorCode::InvalidRequest, invalid.message).with_param(invalid.param)
        })?;
        let prompt = self.tokenise(request)?;
        let length = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let left = self.context_tokens.saturating_sub(length);
        if left == 0 {
            return Err(self.too_long(&format!("{length}")));
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
        // Tokenising takes seconds for megabytes, during which other jobs wait to be prepared.
        let bytes: usize = prompt.pieces.iter().map(String::len).sum();
        let length_min = bytes / self.piece_bytes_max;
        if u32::try_from(length_min).map_or(true, |length| length >= self.context_tokens) {
            return Err(self.too_long(&format!("at least {length_min}")));
        }
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

    fn too_long(&self, length: &str) -> Failure {
        Failure::new(
            ErrorCode::ContextLengthExceeded,
            format!(
                "the prompt has {length} tokens, but this model's context is {} tokens, and the answer needs at least one of them; shorten the conversation",
                self.context_tokens
            ),
        )
        .with_param("messages")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_either_read_or_cancelled() {
        let ticket = Ticket::default();
        assert!(ticket.cancel());
        assert!(!ticket.begin());
        let ticket = Ticket::default();
        assert!(ticket.begin());
        assert!(!ticket.cancel());
    }
}
