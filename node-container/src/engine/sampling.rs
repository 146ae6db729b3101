//! How the next token is drawn.
//!
//! Order, as in llama.cpp: biases, penalties, `top_k`, `top_p`, `min_p`, temperature, draw. What a request leaves out is
//! taken from [`Defaults`]: llama.cpp's own, unless the model file recommends others (`general.sampling.*`).
//! Temperature 0 always takes the likeliest token.
//!
//! Penalties see the answer only, not the prompt, as `OpenAI` describes them.
//!
//! A grammar is asked about the drawn token first; only when it says no is it applied to the whole vocabulary and the
//! token drawn again. That is far cheaper, since models mostly keep to the form by themselves.

use std::time::{Duration, Instant};

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::token::logit_bias::LlamaLogitBias;
use protocol::chat::Sampling;
use protocol::{ChatRequest, ErrorCode, Failure};

use super::grammar;

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

/// One draw keeps every job of the node waiting; usual ones take a few milliseconds.
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
#[derive(Debug)]
pub struct Sampler {
    chain: LlamaSampler,
    grammar: Option<LlamaSampler>,
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
        Ok(Self {
            chain: chain(model, defaults, &request.sampling, answer_tokens_max, seed)?,
            grammar: grammar::sampler(model, &request.response_format)?,
        })
    }

    /// Draws a token from one row of logits and remembers it.
    pub fn draw(&mut self, logits: &[f32]) -> Result<LlamaToken, DrawError> {
        let began = Instant::now();
        let token = self.draw_any(logits).ok_or(DrawError::NoToken)?;
        if self.grammar.is_some() && began.elapsed() > DRAW_TIME_MAX {
            return Err(DrawError::TooSlow);
        }
        Ok(token)
    }

    fn draw_any(&mut self, logits: &[f32]) -> Option<LlamaToken> {
        let mut token = select(&mut self.chain, candidates(logits))?;
        if let Some(grammar) = &mut self.grammar {
            if !allows(grammar, token) {
                let mut allowed = candidates(logits);
                grammar.apply(&mut allowed);
                allowed
                    .data
                    .retain(|candidate| candidate.logit().is_finite());
                token = select(&mut self.chain, allowed)?;
            }
            grammar.try_accept(token).ok()?;
        }
        self.chain.accept(token);
        Some(token)
    }
}

fn candidates(logits: &[f32]) -> LlamaTokenDataArray {
    LlamaTokenDataArray::from_iter(
        (0i32..)
            .zip(logits)
            .map(|(id, logit)| LlamaTokenData::new(LlamaToken::new(id), *logit, 0.0)),
        false,
    )
}

fn select(chain: &mut LlamaSampler, mut candidates: LlamaTokenDataArray) -> Option<LlamaToken> {
    if candidates.data.is_empty() {
        return None;
    }
    chain.apply(&mut candidates);
    candidates.selected_token()
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
    seed: u64,
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
        samplers.push(LlamaSampler::dist(fold_seed(sampling.seed.unwrap_or(seed))));
    }
    Ok(LlamaSampler::chain(samplers, true))
}

/// llama.cpp's seeds have 32 bits, and it takes the highest one to mean "random".
#[expect(
    clippy::cast_possible_truncation,
    reason = "both halves are folded into the low one"
)]
const fn fold_seed(seed: u64) -> u32 {
    let folded = (seed ^ (seed >> 32)) as u32;
    if folded == u32::MAX { 0 } else { folded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_never_the_one_that_means_random() {
        assert_eq!(fold_seed(u64::from(u32::MAX)), 0);
        assert_eq!(fold_seed(42), 42);
        assert_ne!(fold_seed(1 << 32), fold_seed(1 << 33));
    }
}
