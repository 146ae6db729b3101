//! One request for vectors: its texts in tokens, and how far it is.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use protocol::{EmbedRequest, ErrorCode, Failure, FinishReason, JobRequest, Usage};

use crate::engine::embed::{Begun, check_size, line};
use crate::engine::{EngineEvent, JobKey};

/// What fits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Tokens of one text.
    pub(super) input_tokens: u32,
    /// Tokens of one batch.
    pub(super) batch_tokens: usize,
    /// Jobs at once.
    pub(super) jobs: usize,
}

/// A running job.
#[derive(Debug)]
pub(super) struct Job {
    key: JobKey,
    inputs: Vec<Vec<LlamaToken>>,
    /// So many of them are done.
    done: usize,
    /// What the client has of the next line.
    part: String,
    dimensions: Option<u32>,
    prompt_tokens: u32,
    pub(super) is_paused: bool,
}

impl Job {
    /// Reads a request, and takes in what the client has of the answer.
    pub(super) fn new(
        key: JobKey,
        model: &LlamaModel,
        limits: Limits,
        request: &JobRequest,
        answer: Option<&protocol::Answer>,
    ) -> Result<Self, Failure> {
        request.validate().map_err(|invalid| {
            Failure::new(ErrorCode::InvalidRequest, invalid.message).with_param(invalid.param)
        })?;
        let JobRequest::Embed(request) = request else {
            let message = "this model makes embeddings only; choose another one to chat with";
            return Err(Failure::new(ErrorCode::CapabilityMissing, message).with_param("model"));
        };
        check_dimensions(model, request)?;
        let mut prompt_tokens = 0u32;
        let mut inputs = Vec::with_capacity(request.inputs.len());
        for (number, input) in (1u32..).zip(&request.inputs) {
            // What spells a control token is text.
            let tokens = model.vocab().tokenize(input.as_bytes(), true, false);
            let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
            if count > limits.input_tokens {
                let message = format!(
                    "input {number} has {count} tokens, but this model takes at most {} in one; cut it into pieces",
                    limits.input_tokens
                );
                let failure = Failure::new(ErrorCode::ContextLengthExceeded, message);
                return Err(failure.with_param("input"));
            }
            if tokens.is_empty() {
                let message = format!("input {number} has no tokens; leave it out");
                let failure = Failure::new(ErrorCode::InvalidRequest, message);
                return Err(failure.with_param("input"));
            }
            prompt_tokens = prompt_tokens.saturating_add(count);
            inputs.push(tokens);
        }
        let begun = answer.map(Begun::of).unwrap_or_default();
        let is_too_much =
            begun.lines > inputs.len() || (begun.lines == inputs.len() && !begun.part.is_empty());
        if is_too_much {
            let message = "the answer so far has more lines than there are inputs";
            return Err(Failure::new(ErrorCode::InvalidRequest, message).with_param("answer"));
        }
        Ok(Self {
            key,
            inputs,
            done: begun.lines,
            part: begun.part,
            dimensions: request.dimensions,
            prompt_tokens,
            is_paused: false,
        })
    }

    pub(super) const fn key(&self) -> JobKey {
        self.key
    }

    pub(super) const fn prompt_tokens(&self) -> u32 {
        self.prompt_tokens
    }

    pub(super) const fn is_done(&self) -> bool {
        self.done >= self.inputs.len()
    }

    /// A vector has no tokens.
    pub(super) const fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: 0,
            cached_tokens: 0,
        }
    }

    pub(super) const fn finished(&self) -> EngineEvent {
        EngineEvent::Finished {
            key: self.key,
            finish_reason: FinishReason::Stop,
            usage: self.usage(),
        }
    }

    /// The texts whose vectors are still to be found.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &[LlamaToken]> {
        self.inputs.iter().skip(self.done).map(Vec::as_slice)
    }

    /// The vector of the next text: what is to be told of it.
    pub(super) fn take(&mut self, vector: &[f32]) -> Result<Vec<u8>, Failure> {
        self.done += 1;
        let Some(line) = line(vector, self.dimensions) else {
            let message = format!("the model found no vector for input {}", self.done);
            return Err(Failure::new(ErrorCode::EngineFailed, message));
        };
        let part = std::mem::take(&mut self.part);
        let rest = line.strip_prefix(&part).ok_or_else(|| {
            let message = "the answer broke off within a vector that this node computes a little differently; ask again";
            Failure::new(ErrorCode::EngineFailed, message)
        })?;
        Ok(rest.as_bytes().to_vec())
    }
}

/// Whether the model has so many numbers, and an answer room for them.
fn check_dimensions(model: &LlamaModel, request: &EmbedRequest) -> Result<(), Failure> {
    let has = u32::try_from(model.n_embd_out()).unwrap_or(0);
    let wanted = request.dimensions.unwrap_or(has);
    if wanted > has {
        let message = format!("this model's vectors have {has} numbers, but {wanted} are wanted");
        let failure = Failure::new(ErrorCode::InvalidRequest, message);
        return Err(failure.with_param("dimensions"));
    }
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    check_size(request.inputs.len(), wanted)
}
