//! One job on one sequence of the KV cache: first its prompt is read (and
//! what is known of its answer), then its answer is drawn token by token.

use std::collections::VecDeque;

use chat_format::answer::{Answer, Drawn};
use chat_format::given::Forced;
use chat_format::vocabulary::Vocabulary;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use protocol::limits::{ANSWER_BYTES_MAX, ENTRY_BYTES_MAX};
use protocol::{FinishReason, Usage};

use crate::engine::grammar::steering::Steering;
use crate::engine::logprobs::token_logprob;
use crate::engine::sampling::{DrawError, Sampler};
use crate::engine::vision::View;
use crate::engine::{Advance, JobKey};

/// What is told of a prompt's tokens in the cache is a multiple of this. To the token it would tell how far a guess at
/// another's conversation agrees with it, and so let somebody find that out token by token.
const TOLD_CACHED_TOKENS_APART: u32 = 64;

/// How a job ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Finished(FinishReason),
    /// No token could be drawn.
    Broken,
    /// Drawing one took too long.
    TooSlow,
}

/// What a job needs to run.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) key: JobKey,
    /// Tokens to be read: the prompt, and what is known of the answer.
    pub(super) context: Vec<LlamaToken>,
    /// How many of them are the prompt.
    pub(super) prompt_tokens: u32,
    /// Pictures among them.
    pub(super) view: View,
    /// Prompt and answer together have at most this many tokens.
    pub(super) context_tokens_max: u32,
    /// The whole answer has at most this many tokens.
    pub(super) answer_tokens_max: u32,
    /// Tokens that the client has.
    pub(super) told_tokens: u32,
    /// Answer bytes that it has.
    pub(super) told_bytes: usize,
    /// Tokens to be taken before any is drawn.
    pub(super) replayed: VecDeque<u32>,
    /// What the first tokens have to write.
    pub(super) forced: Forced,
    pub(super) sampler: Sampler,
    /// What the sampler has to keep to.
    pub(super) steering: Steering,
    pub(super) answer: Answer,
    pub(super) top_logprobs: Option<u8>,
    /// Whether the client wants the same text for the same seed.
    pub(super) is_seeded: bool,
    /// Whether places in the context are places in the cache.
    pub(super) is_in_line: bool,
}

/// A running job.
#[derive(Debug)]
pub(super) struct Slot {
    work: Work,
    /// Tokens of the context that are in the cache.
    prefilled: usize,
    /// Tokens of the context that are in the current batch.
    planned: usize,
    /// Of the prompt, what was in the cache before.
    cached_tokens: u32,
    /// Whether pictures of the context were in the cache. They are not at hand any more, so what is shared stays.
    has_covered_pictures: bool,
    /// Drawn and evaluated.
    written: Vec<LlamaToken>,
    /// Drawn, but not yet evaluated.
    newest: Option<LlamaToken>,
    /// Where in the current batch the row of logits for the next token is.
    row: Option<i32>,
    /// Tokens beyond the context.
    drawn: u32,
    is_paused: bool,
    /// In which order it was admitted.
    number: u64,
}

impl Slot {
    pub(super) const fn new(work: Work) -> Self {
        Self {
            work,
            prefilled: 0,
            planned: 0,
            cached_tokens: 0,
            has_covered_pictures: false,
            written: Vec::new(),
            newest: None,
            row: None,
            drawn: 0,
            is_paused: false,
            number: 0,
        }
    }

    pub(super) const fn key(&self) -> JobKey {
        self.work.key
    }

    pub(super) const fn prompt_tokens(&self) -> u32 {
        self.work.prompt_tokens
    }

    pub(super) const fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.work.prompt_tokens,
            completion_tokens: self.work.told_tokens,
            cached_tokens: told_cached(self.cached_tokens),
        }
    }

    /// Everything that is to be read.
    pub(super) fn context(&self) -> &[LlamaToken] {
        &self.work.context
    }

    /// How much of it is in the cache.
    pub(super) const fn prefilled(&self) -> usize {
        self.prefilled
    }

    /// Whether all of it is.
    pub(super) const fn has_read(&self) -> bool {
        self.prefilled == self.work.context.len()
    }

    /// Whether what is in the cache already need not be read again.
    pub(super) const fn may_reuse(&self) -> bool {
        // The same seed gives the same text only where the prompt is read in the same pieces.
        !self.work.is_seeded && self.work.is_in_line && !self.has_covered_pictures
    }

    /// Nothing of it is in the cache any more: everything is read.
    pub(super) const fn start_over(&mut self) {
        self.prefilled = 0;
        self.cached_tokens = 0;
    }

    /// Whether its context could be written in so many tokens more.
    pub(super) fn has_room_for(&self, tokens: usize) -> bool {
        let room = self.work.context_tokens_max.saturating_sub(self.length());
        usize::try_from(room).is_ok_and(|room| tokens < room)
    }

    /// What is in the cache of this job: of what is to be read, and of what was drawn.
    pub(super) fn evaluated(&self) -> Vec<LlamaToken> {
        let read = self.work.context.get(..self.prefilled).unwrap_or_default();
        [read, &self.written].concat()
    }

    /// How many tokens that are.
    pub(super) const fn evaluated_tokens(&self) -> usize {
        self.prefilled + self.written.len()
    }

    /// These tokens are in the cache, and write what the first `covered` ones of the context write.
    pub(super) fn reuse(&mut self, tokens: &[LlamaToken], covered: usize) {
        let covered = covered.min(self.work.context.len());
        self.work.context.splice(..covered, tokens.iter().copied());
        self.prefilled = tokens.len();
        self.has_covered_pictures |= self.work.view.begin_after(covered, tokens.len());
        let covered = u32::try_from(covered).unwrap_or(u32::MAX);
        self.cached_tokens = covered.min(self.work.prompt_tokens);
    }

    pub(super) const fn is_reading(&self) -> bool {
        self.newest.is_none()
    }

    /// In which order it was admitted.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Says in which order it was admitted.
    pub(super) const fn set_number(&mut self, number: u64) {
        self.number = number;
    }

    /// Tokens of the context that are not in the cache yet.
    pub(super) fn unread(&self) -> usize {
        self.work.context.len().saturating_sub(self.prefilled)
    }

    /// How many of them could be read next: those before the next picture, which goes by itself.
    pub(super) fn readable(&self) -> usize {
        self.unread().min(self.work.view.text_after(self.prefilled))
    }

    /// Whether it is left out of decode steps; its place in the cache stays.
    pub(super) const fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(super) const fn pause(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// Whether there is no place for one more token, in the context or by `max_tokens`.
    pub(super) fn is_full(&self) -> bool {
        let work = &self.work;
        self.length() >= work.context_tokens_max
            || (work.told_tokens >= work.answer_tokens_max && work.replayed.is_empty())
    }

    /// The answer may not go on: what was held back is text.
    pub(super) fn finish(&mut self) {
        self.work.answer.finish(None);
    }

    /// What is to be told of an answer that is over before anything was drawn.
    pub(super) fn last_words(&mut self, advances: &mut Vec<Advance>) {
        self.tell(advances);
    }

    /// What is new of the answer.
    fn tell(&mut self, advances: &mut Vec<Advance>) {
        let mut told = Vec::new();
        self.work.answer.advance(&mut told);
        let key = self.work.key;
        advances.extend(told.into_iter().map(|told| Advance {
            key,
            kind: told.kind,
            tokens: told.tokens,
            bytes: told.text.into_bytes(),
        }));
    }

    /// Tokens of prompt and answer.
    fn length(&self) -> u32 {
        let read = u32::try_from(self.work.context.len()).unwrap_or(u32::MAX);
        read.saturating_add(self.drawn)
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
        if self.is_paused {
            return true;
        }
        if let Some(newest) = self.newest {
            // The newest token was the last one drawn, so its place is one before all that are known.
            let index = usize::try_from(self.length() - 1).unwrap_or(usize::MAX);
            self.row = Some(batch.n_tokens());
            return add(batch, newest, self.work.view.place(index), sequence, true);
        }
        let piece = self
            .work
            .context
            .iter()
            .enumerate()
            .skip(self.prefilled)
            .take(prefill_tokens.min(self.readable()));
        for (index, token) in piece {
            let is_last = index + 1 == self.work.context.len();
            if is_last {
                self.row = Some(batch.n_tokens());
            }
            if !add(
                batch,
                *token,
                self.work.view.place(index),
                sequence,
                is_last,
            ) {
                return false;
            }
            self.planned += 1;
        }
        true
    }

    /// The pictures of the prompt.
    pub(super) const fn view(&self) -> &View {
        &self.work.view
    }

    /// Lends out the pictures of the prompt.
    pub(super) const fn view_mut(&mut self) -> &mut View {
        &mut self.work.view
    }

    /// Where the next token to be read belongs to a picture: its index.
    pub(super) fn looks_at(&self) -> Option<usize> {
        let is_there = !self.is_paused
            && self.newest.is_none()
            && self.work.view.text_after(self.prefilled) == 0;
        is_there.then_some(self.prefilled)
    }

    /// So many tokens of a picture are in the cache now; how much of the context that makes.
    pub(super) fn note_seen(&mut self, tokens: usize) -> u32 {
        self.prefilled += tokens;
        u32::try_from(self.prefilled).unwrap_or(u32::MAX)
    }

    /// The batch was evaluated: how much of the context is in the cache now, if any of it was new.
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
        vocabulary: &Vocabulary,
        advances: &mut Vec<Advance>,
    ) -> Option<Ending> {
        let row = self.row.take()?;
        self.written.extend(self.newest.take());
        let logits = context.get_logits_ith(row);
        let (token, is_known) = match self.next_token(logits, vocabulary) {
            Ok(next) => next,
            Err(DrawError::NoToken) => return Some(Ending::Broken),
            Err(DrawError::TooSlow) => return Some(Ending::TooSlow),
        };
        let Ok(id) = u32::try_from(token.0) else {
            return Some(Ending::Broken);
        };
        self.drawn += 1;
        let vocab = model.vocab();
        let is_end = vocab.is_eog(token);
        let piece = vocabulary.piece(id).unwrap_or_default();
        let work = &mut self.work;
        let is_told = is_known || work.forced.take(id, piece);
        work.told_tokens += u32::from(!is_told);
        let ending = if is_end {
            work.answer.finish((!is_told).then_some(id));
            Some(Ending::Finished(work.answer.reason()))
        } else {
            let logprob = work
                .top_logprobs
                .filter(|_| is_known || !is_told)
                .map(|count| {
                    token_logprob(logits, id, count, |id| {
                        let id = LlamaToken::new(i32::try_from(id).unwrap_or(i32::MAX));
                        vocab.token_to_piece(id, true, None)
                    })
                });
            let drawn = Drawn {
                token: id,
                piece,
                logprob,
                is_told,
            };
            let is_whole = work.answer.push(drawn);
            let followed = work
                .steering
                .follow(&work.answer, &mut work.sampler, vocabulary);
            if is_whole {
                Some(Ending::Finished(work.answer.reason()))
            } else if followed.is_err() {
                Some(Ending::Broken)
            } else if self.is_full() || self.is_almost_too_long() {
                self.work.answer.finish(None);
                Some(Ending::Finished(FinishReason::Length))
            } else {
                self.newest = Some(token);
                None
            }
        };
        let before = advances.len();
        self.tell(advances);
        self.work.told_bytes += advances
            .iter()
            .skip(before)
            .map(|advance| advance.bytes.len())
            .sum::<usize>();
        ending
    }

    /// The next token, and whether it was known before.
    fn next_token(
        &mut self,
        logits: &[f32],
        vocabulary: &Vocabulary,
    ) -> Result<(LlamaToken, bool), DrawError> {
        let work = &mut self.work;
        let known = work.replayed.pop_front();
        if let Some(token) = known.and_then(|token| i32::try_from(token).ok()) {
            let token = LlamaToken::new(token);
            work.steering.accept(&mut work.sampler, token)?;
            return Ok((token, true));
        }
        let (forced, sampler, steering) = (&work.forced, &mut work.sampler, &work.steering);
        if forced.is_over() {
            return Ok((sampler.draw(logits, |_| true)?, false));
        }
        let next = forced.next(vocabulary);
        let piece = |token: LlamaToken| {
            let id = u32::try_from(token.0).ok()?;
            Some((id, vocabulary.piece(id)?))
        };
        let fits = |token| {
            piece(token).is_some_and(|(id, piece)| Some(id) == next || forced.is_covered_by(piece))
        };
        let agrees = |token| piece(token).is_some_and(|(_, piece)| forced.agrees_with(piece));
        let token = match sampler.draw(logits, fits) {
            // A grammar may forbid the usual way to write something.
            Err(DrawError::NoToken) => match sampler.draw(logits, agrees) {
                Err(DrawError::NoToken) if steering.let_go(sampler) => {
                    sampler.draw(logits, fits)?
                }
                drawn => drawn?,
            },
            drawn => drawn?,
        };
        Ok((token, false))
    }

    /// Log-probabilities of a very long answer can fill what the wire allows; one entry more must always fit.
    const fn is_almost_too_long(&self) -> bool {
        self.work.told_bytes + 2 * ENTRY_BYTES_MAX >= ANSWER_BYTES_MAX as usize
    }
}

/// What is told where so many tokens of the prompt were in the cache.
const fn told_cached(tokens: u32) -> u32 {
    tokens - tokens % TOLD_CACHED_TOKENS_APART
}

pub(super) fn add(
    batch: &mut LlamaBatch<'_>,
    token: LlamaToken,
    place: usize,
    sequence: i32,
    logits: bool,
) -> bool {
    let Ok(place) = i32::try_from(place) else {
        return false;
    };
    batch.add(token, place, &[sequence], logits).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_the_cache_is_rounded_down() {
        let told = [0, 1, 63, 64, 127, 128, u32::MAX].map(told_cached);
        assert_eq!(told, [0, 0, 0, 64, 64, 128, u32::MAX - 63]);
    }
}
