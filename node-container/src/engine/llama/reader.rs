//! The thread that prepares jobs: checks, renders, tokenises, compiles grammars. The decode loop never waits for it.

use std::sync::mpsc::{Receiver, Sender};

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use protocol::{ChatRequest, ErrorCode, Failure};
use tokio::sync::mpsc::WeakUnboundedSender;

use super::slot::Slot;
use crate::engine::answer::Answer;
use crate::engine::sampling::{Defaults, Sampler};
use crate::engine::template::ChatTemplate;
use crate::engine::{Command, JobKey};

/// What the reader is given.
#[derive(Debug)]
pub(super) enum Task {
    /// Make this a job that can be decoded.
    Prepare(JobKey, Box<ChatRequest>),
    /// Find out whether it could be made one.
    Check(u32, Box<ChatRequest>),
}

/// What the reader gives back, in the same order.
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
        for task in tasks {
            let result = match task {
                Task::Prepare(key, request) => {
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
                // Fails where the loop has ended, which ends `tasks` too.
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
