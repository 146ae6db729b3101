//! How the next token is drawn.
//!
//! Order, as in llama.cpp: biases, penalties, `top_k`, `top_p`, `min_p`, temperature, draw. What a request leaves out is
//! taken from [`Defaults`]: llama.cpp's own, unless the model file recommends others (`general.sampling.*`).
//! Temperature 0 always takes the likeliest token.
//!
//! Penalties see the answer only, not the prompt, as `OpenAI` describes them.
//!
//! A draw is a function of the seed and of the token's position in the answer ([`randomness`]): whoever goes on with an
//! answer draws what the one who began it would have drawn.
//!
//! A grammar is asked about the drawn token first; only when it says no is it applied to the whole vocabulary and the
//! token drawn again. That is far cheaper, since models mostly keep to the form by themselves.

use std::time::Duration;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::token::logit_bias::LlamaLogitBias;
use nix::time::{ClockId, clock_gettime};
use protocol::chat::Sampling;
use protocol::{ChatRequest, ErrorCode, Failure};

use super::grammar;
use randomness::Randomness;

mod randomness;

/// What holds where a request says nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// 0.8
    pub temperature: f32,
    /// 0.95
    pub top_p: f32,
    /// 40
    pub top_k: u32,
    /// 0.05
    pub min_p: f32,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_p: 0.95,
            top_k: 40,
            min_p: 0.05,
        }
    }
}

impl Defaults {
    /// The model file's recommendations where it has any that make sense.
    pub fn of_model(model: &LlamaModel) -> Self {
        let ours = Self::default();
        let number = |key: &str, most: f32| {
            let text = model
                .meta_val_str(&format!("general.sampling.{key}"))
                .ok()?;
            let value: f32 = text.trim().parse().ok()?;
            (0.0..=most).contains(&value).then_some(value)
        };
        let top_k = model
            .meta_val_str("general.sampling.top_k")
            .ok()
            .and_then(|text| text.trim().parse().ok());
        Self {
            temperature: number("temp", 2.0).unwrap_or(ours.temperature),
            top_p: number("top_p", 1.0)
                .filter(|value| *value > 0.0)
                .unwrap_or(ours.top_p),
            top_k: top_k.unwrap_or(ours.top_k),
            min_p: number("min_p", 1.0).unwrap_or(ours.min_p),
        }
    }
}

/// Computing time for one draw, which keeps every job of the node waiting; usual ones take a few milliseconds. A machine
/// that is busy with other things is no fault of the grammar.
const DRAW_TIME_MAX: Duration = Duration::from_millis(250);

/// Why no token was drawn. The job cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrawError {
    /// Nothing can be drawn.
    NoToken,
    /// The grammar costs too much.
    TooSlow,
}

/// Draws the tokens of one answer.
#[derive(Debug, Clone)]
pub struct Sampler {
    chain: LlamaSampler,
    grammar: Option<LlamaSampler>,
    /// Without it the likeliest token is drawn.
    randomness: Option<Randomness>,
    /// Tokens of the answer so far.
    position: u32,
}

impl Sampler {
    /// A sampler for one request. `seed` is used where the request has none.
    pub fn new(
        model: &LlamaModel,
        defaults: Defaults,
        request: &ChatRequest,
        answer_tokens_max: u32,
        seed: u64,
    ) -> Result<Self, Failure> {
        let sampling = &request.sampling;
        let temperature = sampling.temperature.unwrap_or(defaults.temperature);
        Ok(Self {
            chain: chain(model, defaults, sampling, answer_tokens_max)?,
            grammar: grammar::sampler(model, &request.response_format)?,
            randomness: (temperature != 0.0)
                .then(|| Randomness::new(sampling.seed.unwrap_or(seed))),
            position: 0,
        })
    }

    /// Takes over a token that was drawn before; refused where the grammar does not allow it.
    pub fn accept(&mut self, token: LlamaToken) -> Result<(), DrawError> {
        if let Some(grammar) = &mut self.grammar {
            let began = thread_time();
            // llama.cpp aborts at an end of turn that the grammar does not allow, so it is asked first.
            if !allows(grammar, token) || grammar.try_accept(token).is_err() {
                return Err(DrawError::NoToken);
            }
            if spent_since(began) > DRAW_TIME_MAX {
                return Err(DrawError::TooSlow);
            }
        }
        self.chain.accept(token);
        self.position += 1;
        Ok(())
    }

    /// Whether these tokens could follow.
    pub fn check(&self, tokens: impl Iterator<Item = LlamaToken>) -> Result<(), DrawError> {
        if self.grammar.is_none() {
            return Ok(());
        }
        let mut trial = self.clone();
        tokens.into_iter().try_for_each(|token| trial.accept(token))
    }

    /// Draws a token that `fits` from one row of logits and remembers it.
    pub fn draw(
        &mut self,
        logits: &[f32],
        fits: impl Fn(LlamaToken) -> bool,
    ) -> Result<LlamaToken, DrawError> {
        let began = thread_time();
        let token = self.draw_any(logits, fits).ok_or(DrawError::NoToken)?;
        if self.grammar.is_some() && spent_since(began) > DRAW_TIME_MAX {
            return Err(DrawError::TooSlow);
        }
        Ok(token)
    }

    fn draw_any(
        &mut self,
        logits: &[f32],
        fits: impl Fn(LlamaToken) -> bool,
    ) -> Option<LlamaToken> {
        let mut token = self.select(candidates(logits))?;
        let is_allowed = fits(token)
            && self
                .grammar
                .as_mut()
                .is_none_or(|grammar| allows(grammar, token));
        if !is_allowed {
            let mut allowed = candidates(logits);
            allowed.data.retain(|candidate| fits(candidate.id()));
            if let Some(grammar) = &mut self.grammar {
                grammar.apply(&mut allowed);
            }
            allowed
                .data
                .retain(|candidate| candidate.logit().is_finite());
            token = self.select(allowed)?;
        }
        if let Some(grammar) = &mut self.grammar {
            grammar.try_accept(token).ok()?;
        }
        self.chain.accept(token);
        self.position += 1;
        Some(token)
    }

    fn select(&mut self, mut candidates: LlamaTokenDataArray) -> Option<LlamaToken> {
        if candidates.data.is_empty() {
            return None;
        }
        self.chain.apply(&mut candidates);
        match &self.randomness {
            Some(randomness) => randomness.draw(
                self.position,
                candidates
                    .data
                    .iter()
                    .map(|candidate| (candidate.id().0, candidate.logit())),
            ),
            None => return candidates.selected_token(),
        }
        .map(LlamaToken::new)
    }
}

/// The computing time that this thread has used; nothing where the system does not tell.
pub(super) fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

pub(super) fn spent_since(began: Duration) -> Duration {
    thread_time().saturating_sub(began)
}

fn candidates(logits: &[f32]) -> LlamaTokenDataArray {
    LlamaTokenDataArray::from_iter(
        (0i32..)
            .zip(logits)
            .map(|(id, logit)| LlamaTokenData::new(LlamaToken::new(id), *logit, 0.0)),
        false,
    )
}

fn allows(grammar: &mut LlamaSampler, token: LlamaToken) -> bool {
    let mut alone = LlamaTokenDataArray::new(vec![LlamaTokenData::new(token, 1.0, 0.0)], false);
    grammar.apply(&mut alone);
    alone
        .data
        .first()
        .is_some_and(|candidate| candidate.logit().is_finite())
}

fn chain(
    model: &LlamaModel,
    defaults: Defaults,
    sampling: &Sampling,
    answer_tokens_max: u32,
) -> Result<LlamaSampler, Failure> {
    let vocabulary = model.vocab().n_tokens();
    let mut samplers = Vec::new();
    if !sampling.logit_bias.is_empty() {
        let biases = sampling
            .logit_bias
            .iter()
            .map(|bias| {
                i32::try_from(bias.token)
                    .ok()
                    .filter(|token| *token < vocabulary)
                    .map(|token| LlamaLogitBias::new(LlamaToken::new(token), bias.bias))
                    .ok_or_else(|| {
                        Failure::new(
                            ErrorCode::InvalidRequest,
                            format!(
                                "logit_bias names token {}, but this model's vocabulary has {vocabulary} tokens",
                                bias.token
                            ),
                        )
                        .with_param("logit_bias")
                    })
            })
            .collect::<Result<Vec<_>, _>>()?;
        samplers.push(LlamaSampler::logit_bias(vocabulary, &biases));
    }
    let frequency = sampling.frequency_penalty.unwrap_or(0.0);
    let presence = sampling.presence_penalty.unwrap_or(0.0);
    if frequency != 0.0 || presence != 0.0 {
        let window = i32::try_from(answer_tokens_max).unwrap_or(i32::MAX);
        samplers.push(LlamaSampler::penalties(
            vocabulary, window, 1.0, frequency, presence,
        ));
    }
    let temperature = sampling.temperature.unwrap_or(defaults.temperature);
    if temperature == 0.0 {
        samplers.push(LlamaSampler::greedy());
    } else {
        let top_k = sampling.top_k.unwrap_or(defaults.top_k);
        // 0 means all, in the request and in llama.cpp alike.
        samplers.push(LlamaSampler::top_k(i32::try_from(top_k).unwrap_or(0)));
        let top_p = sampling.top_p.unwrap_or(defaults.top_p);
        samplers.push(LlamaSampler::top_p(top_p, 1));
        let min_p = sampling.min_p.unwrap_or(defaults.min_p);
        samplers.push(LlamaSampler::min_p(min_p, 1));
        samplers.push(LlamaSampler::temp(temperature));
    }
    Ok(LlamaSampler::chain(samplers, true))
}
