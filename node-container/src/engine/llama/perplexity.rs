//! How likely the model finds a given answer: for tests that compare continued answers with unbroken ones.

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use protocol::{ChatRequest, Failure};
use serde::{Deserialize, Serialize};

use super::BATCH_TOKENS_MAX;
use super::context::engine_context;
use super::load::file::load_model;
use super::load::language::{chat_template, syntax, vocabulary};
use super::load::options::context_tokens;
use super::load::outcome::LoadError;
use super::pictures::Purpose;
use super::reader::Reader;
use super::{LlamaOptions, slot};
use crate::engine::logprobs::token_logprob;

/// An answer and what it answers.
#[derive(Debug, Clone, Deserialize)]
pub struct Given {
    /// What was asked. Only the conversation matters.
    pub request: ChatRequest,
    /// The answer's text.
    pub text: String,
    /// Only tokens that reach beyond this byte count.
    #[serde(default)]
    pub from: usize,
}

/// What the model makes of it. The perplexity is e to the power of `nll / tokens`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Score {
    /// Tokens that counted.
    pub tokens: u32,
    /// Sum of their negative log-probabilities, as the raw model has them.
    pub nll: f64,
}

/// Why there is no score.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// The conversation cannot be rendered, or does not fit.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// Conversation and answer together do not fit.
    #[error("conversation and answer have {0} tokens, which is over the context")]
    TooLong(usize),
    /// llama.cpp failed.
    #[error("the model could not be evaluated: {0}")]
    Decode(String),
}

/// Loads a model and lends it to `work`.
pub fn with_scorer<T>(
    options: &LlamaOptions,
    work: impl FnOnce(&mut Scorer<'_>) -> T,
) -> Result<T, LoadError> {
    let model = load_model(options)?;
    let template = chat_template(&model, options)?;
    let context_tokens = context_tokens(&model, options)?;
    let syntax = syntax(&model, &template);
    let vocabulary = vocabulary(&model, &syntax);
    let batch_tokens = u32::try_from(BATCH_TOKENS_MAX).unwrap_or(u32::MAX);
    let threads = options.threads.unwrap_or(1);
    let mut scorer = Scorer {
        context: engine_context(&model, options, context_tokens, batch_tokens, threads)?,
        reader: Reader::new(
            &model,
            &vocabulary,
            (template, syntax),
            context_tokens,
            None,
        ),
        context_tokens,
    };
    Ok(work(&mut scorer))
}

/// A model that judges answers.
#[derive(Debug)]
pub struct Scorer<'m> {
    context: LlamaContext<'m>,
    reader: Reader<'m>,
    context_tokens: u32,
}

impl Scorer<'_> {
    /// Judges one answer.
    pub fn score(&mut self, given: &Given) -> Result<Score, ScoreError> {
        let prompt = self.reader.render(&given.request)?;
        let (mut tokens, _) = self
            .reader
            .tokenise(&given.request, &prompt, Purpose::Check)?;
        let prompt_tokens = tokens.len();
        let answer = self.reader.tokenise_text(&given.text);
        let mut end = 0;
        let counts: Vec<bool> = answer
            .iter()
            .map(|token| {
                end += self.reader.piece(*token).len();
                end > given.from
            })
            .collect();
        tokens.extend(answer.into_iter().map(super::reader::to_token));
        if u32::try_from(tokens.len()).map_or(true, |length| length > self.context_tokens) {
            return Err(ScoreError::TooLong(tokens.len()));
        }
        self.context.clear_kv_cache();
        let mut score = Score::default();
        for start in (0..tokens.len()).step_by(BATCH_TOKENS_MAX) {
            let rows = self.evaluate(&tokens, start, prompt_tokens)?;
            for (row, index) in rows {
                let Some(next) = tokens.get(index + 1) else {
                    continue;
                };
                if counts.get(index + 1 - prompt_tokens) == Some(&true) {
                    score.tokens += 1;
                    score.nll -= self.logprob(row, *next);
                }
            }
        }
        Ok(score)
    }

    /// Evaluates one batch of `tokens`; returns the rows of logits that come before tokens of the answer.
    fn evaluate(
        &mut self,
        tokens: &[LlamaToken],
        start: usize,
        prompt_tokens: usize,
    ) -> Result<Vec<(i32, usize)>, ScoreError> {
        let mut batch = LlamaBatch::new(BATCH_TOKENS_MAX, 1);
        let mut rows = Vec::new();
        for (index, token) in tokens.iter().enumerate().skip(start).take(BATCH_TOKENS_MAX) {
            let is_wanted = index + 1 >= prompt_tokens;
            if is_wanted {
                rows.push((batch.n_tokens(), index));
            }
            if !slot::add(&mut batch, *token, index, 0, is_wanted) {
                return Err(ScoreError::Decode("the batch is full".to_owned()));
            }
        }
        self.context
            .decode(&mut batch)
            .map_err(|error| ScoreError::Decode(error.to_string()))?;
        Ok(rows)
    }

    fn logprob(&self, row: i32, token: LlamaToken) -> f64 {
        let logits = self.context.get_logits_ith(row);
        let id = u32::try_from(token.0).unwrap_or(u32::MAX);
        token_logprob(logits, id, 0, |_| Vec::new())
            .candidate
            .logprob
    }
}
