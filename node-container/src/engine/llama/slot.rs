//! One job on one sequence of the KV cache: first its prompt is read, then its answer is drawn token by token.

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use protocol::limits::{ANSWER_BYTES_MAX, ENTRY_BYTES_MAX};
use protocol::{FinishReason, Usage};

use crate::engine::answer::Answer;
use crate::engine::logprobs::token_logprob;
use crate::engine::sampling::{DrawError, Sampler};
use crate::engine::{Advance, JobKey};

/// How a job ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Finished(FinishReason),
    /// No token could be drawn.
    Broken,
    /// Drawing one took too long.
    TooSlow,
}

/// A running job.
#[derive(Debug)]
pub(super) struct Slot {
    key: JobKey,
    prompt: Vec<LlamaToken>,
    /// Prompt tokens in the cache.
    prefilled: usize,
    /// Prompt tokens in the current batch.
    planned: usize,
    /// Drawn, but not yet evaluated.
    newest: Option<LlamaToken>,
    /// Where in the current batch the row of logits for the next token is.
    row: Option<i32>,
    drawn: u32,
    drawn_max: u32,
    sampler: Sampler,
    answer: Answer,
    top_logprobs: Option<u8>,
    told_bytes: usize,
}

impl Slot {
    pub(super) const fn new(
        key: JobKey,
        prompt: Vec<LlamaToken>,
        drawn_max: u32,
        sampler: Sampler,
        answer: Answer,
        top_logprobs: Option<u8>,
    ) -> Self {
        Self {
            key,
            prompt,
            prefilled: 0,
            planned: 0,
            newest: None,
            row: None,
            drawn: 0,
            drawn_max,
            sampler,
            answer,
            top_logprobs,
            told_bytes: 0,
        }
    }

    pub(super) const fn key(&self) -> JobKey {
        self.key
    }

    pub(super) fn prompt_tokens(&self) -> u32 {
        u32::try_from(self.prompt.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens(),
            completion_tokens: self.drawn,
        }
    }

    pub(super) const fn is_reading(&self) -> bool {
        self.newest.is_none()
    }

    /// Puts into the batch what this job wants evaluated; `false` where the batch refused.
    pub(super) fn plan(
        &mut self,
        batch: &mut LlamaBatch<'_>,
        sequence: i32,
        prefill_tokens: usize,
    ) -> bool {
        self.planned = 0;
        self.row = None;
        if let Some(newest) = self.newest {
            // The newest token was the last one drawn, so its place is one before all that are known.
            let place = self.prompt_tokens() + self.drawn - 1;
            self.row = Some(batch.n_tokens());
            return add(batch, newest, place, sequence, true);
        }
        let piece = self
            .prompt
            .iter()
            .enumerate()
            .skip(self.prefilled)
            .take(prefill_tokens);
        for (index, token) in piece {
            let is_last = index + 1 == self.prompt.len();
            if is_last {
                self.row = Some(batch.n_tokens());
            }
            let place = u32::try_from(index).unwrap_or(u32::MAX);
            if !add(batch, *token, place, sequence, is_last) {
                return false;
            }
            self.planned += 1;
        }
        true
    }

    /// The batch was evaluated: how much of the prompt is in the cache now, if any of it was new.
    pub(super) fn note_prefilled(&mut self) -> Option<u32> {
        if self.planned == 0 {
            return None;
        }
        self.prefilled += std::mem::take(&mut self.planned);
        u32::try_from(self.prefilled).ok()
    }

    /// Draws the next token where there is a row of logits for it, and says what became of the answer.
    pub(super) fn take_token(
        &mut self,
        context: &LlamaContext<'_>,
        model: &LlamaModel,
        advances: &mut Vec<Advance>,
    ) -> Option<Ending> {
        let row = self.row.take()?;
        let logits = context.get_logits_ith(row);
        let token = match self.sampler.draw(logits) {
            Ok(token) => token,
            Err(DrawError::NoToken) => return Some(Ending::Broken),
            Err(DrawError::TooSlow) => return Some(Ending::TooSlow),
        };
        let Ok(id) = u32::try_from(token.0) else {
            return Some(Ending::Broken);
        };
        self.drawn += 1;
        let vocab = model.vocab();
        let ending = if vocab.is_eog(token) {
            self.answer.finish(Some(id));
            Some(Ending::Finished(FinishReason::Stop))
        } else {
            let logprob = self.top_logprobs.map(|count| {
                token_logprob(logits, id, count, |id| {
                    let id = LlamaToken::new(i32::try_from(id).unwrap_or(i32::MAX));
                    vocab.token_to_piece(id, true, None)
                })
            });
            let piece = vocab.token_to_piece(token, false, None);
            if self.answer.push(id, &piece, logprob) {
                Some(Ending::Finished(FinishReason::Stop))
            } else if self.drawn >= self.drawn_max || self.is_almost_too_long() {
                self.answer.finish(None);
                Some(Ending::Finished(FinishReason::Length))
            } else {
                self.newest = Some(token);
                None
            }
        };
        let before = advances.len();
        self.answer.advance(advances);
        self.told_bytes += advances
            .iter()
            .skip(before)
            .map(|advance| advance.bytes.len())
            .sum::<usize>();
        ending
    }

    /// Log-probabilities of a very long answer can fill what the wire allows; one entry more must always fit.
    const fn is_almost_too_long(&self) -> bool {
        self.told_bytes + 2 * ENTRY_BYTES_MAX >= ANSWER_BYTES_MAX as usize
    }
}

fn add(
    batch: &mut LlamaBatch<'_>,
    token: LlamaToken,
    place: u32,
    sequence: i32,
    logits: bool,
) -> bool {
    let Ok(place) = i32::try_from(place) else {
        return false;
    };
    batch.add(token, place, &[sequence], logits).is_ok()
}
