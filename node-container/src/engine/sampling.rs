//! How the next token is drawn.
//!
//! The rules are those of the crate [`sampling`](::sampling), which every engine uses. What a request leaves out is taken
//! from [`Defaults`]: llama.cpp's own, unless the model file recommends others (`general.sampling.*`).
//!
//! Penalties see the answer only, not the prompt, as `OpenAI` describes them.
//!
//! A draw is a function of the seed and of the token's position in the answer: whoever goes on with an
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
use nix::time::{ClockId, clock_gettime};
use protocol::chat::Sampling;
use protocol::{ChatRequest, ErrorCode, Failure};

use ::sampling::{Randomness, Rules, Selection};

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
    selection: Selection,
    grammar: Option<LlamaSampler>,
    /// Without it the likeliest token is drawn.
    randomness: Option<Randomness>,
    /// Tokens of the answer so far.
    position: u32,
    /// A row without what is not allowed.
    allowed: Vec<f32>,
}

impl Sampler {
    /// A sampler for one request. `seed` is used where the request has none.
    pub fn new(
        model: &LlamaModel,
        defaults: Defaults,
        request: &ChatRequest,
        seed: u64,
    ) -> Result<Self, Failure> {
        let rules = rules(model, defaults, &request.sampling)?;
        let selection = Selection::new(rules);
        let is_random = !selection.is_greedy();
        Ok(Self {
            selection,
            grammar: None,
            randomness: is_random.then(|| Randomness::new(request.sampling.seed.unwrap_or(seed))),
            position: 0,
            allowed: Vec::new(),
        })
    }

    /// From here on, what is drawn keeps to this grammar, or to none.
    pub fn constrain(&mut self, grammar: Option<LlamaSampler>) {
        self.grammar = grammar;
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
        self.remember(token);
        Ok(())
    }

    /// Draws a token that `fits` from one row of logits and remembers it.
    pub fn draw(
        &mut self,
        logits: &[f32],
        fits: impl Fn(LlamaToken) -> bool,
    ) -> Result<LlamaToken, DrawError> {
        if self.grammar.is_none() {
            return self.draw_any(logits, fits).ok_or(DrawError::NoToken);
        }
        let began = thread_time();
        let token = self.draw_any(logits, fits).ok_or(DrawError::NoToken)?;
        if spent_since(began) > DRAW_TIME_MAX {
            return Err(DrawError::TooSlow);
        }
        Ok(token)
    }

    fn draw_any(
        &mut self,
        logits: &[f32],
        fits: impl Fn(LlamaToken) -> bool,
    ) -> Option<LlamaToken> {
        let mut token = select(&mut self.selection, self.randomness, self.position, logits)?;
        let is_allowed = fits(token)
            && self
                .grammar
                .as_mut()
                .is_none_or(|grammar| allows(grammar, token));
        if !is_allowed {
            self.allow(logits, fits);
            let row = &self.allowed;
            token = select(&mut self.selection, self.randomness, self.position, row)?;
        }
        if let Some(grammar) = &mut self.grammar {
            grammar.try_accept(token).ok()?;
        }
        self.remember(token);
        Some(token)
    }

    fn remember(&mut self, token: LlamaToken) {
        if let Ok(id) = u32::try_from(token.0) {
            self.selection.accept(id);
        }
        self.position += 1;
    }

    /// Makes a row in which nothing else can be drawn than what is allowed.
    fn allow(&mut self, logits: &[f32], fits: impl Fn(LlamaToken) -> bool) {
        let mut allowed = candidates(logits);
        allowed.data.retain(|candidate| fits(candidate.id()));
        if let Some(grammar) = &mut self.grammar
            && !allowed.data.is_empty()
        {
            grammar.apply(&mut allowed);
        }
        self.allowed.clear();
        self.allowed.resize(logits.len(), f32::NEG_INFINITY);
        for candidate in &allowed.data {
            let place = usize::try_from(candidate.id().0).ok();
            if let Some(logit) = place.and_then(|place| self.allowed.get_mut(place)) {
                *logit = candidate.logit();
            }
        }
    }
}

fn select(
    selection: &mut Selection,
    randomness: Option<Randomness>,
    position: u32,
    row: &[f32],
) -> Option<LlamaToken> {
    let candidates = selection.candidates(row);
    let id = match randomness {
        Some(randomness) => randomness.draw(position, candidates.iter().copied()),
        None => candidates.first().map(|candidate| candidate.id),
    };
    id.and_then(|id| i32::try_from(id).ok())
        .map(LlamaToken::new)
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

pub(super) fn allows(grammar: &mut LlamaSampler, token: LlamaToken) -> bool {
    let mut alone = LlamaTokenDataArray::new(vec![LlamaTokenData::new(token, 1.0, 0.0)], false);
    grammar.apply(&mut alone);
    alone
        .data
        .first()
        .is_some_and(|candidate| candidate.logit().is_finite())
}

fn rules(model: &LlamaModel, defaults: Defaults, sampling: &Sampling) -> Result<Rules, Failure> {
    let vocabulary = u32::try_from(model.vocab().n_tokens()).unwrap_or(0);
    for bias in &sampling.logit_bias {
        if bias.token >= vocabulary {
            return Err(Failure::new(
                ErrorCode::InvalidRequest,
                format!(
                    "logit_bias names token {}, but this model's vocabulary has {vocabulary} tokens",
                    bias.token
                ),
            )
            .with_param("logit_bias"));
        }
    }
    Ok(Rules {
        temperature: sampling.temperature.unwrap_or(defaults.temperature),
        top_k: sampling.top_k.unwrap_or(defaults.top_k),
        top_p: sampling.top_p.unwrap_or(defaults.top_p),
        min_p: sampling.min_p.unwrap_or(defaults.min_p),
        frequency_penalty: sampling.frequency_penalty.unwrap_or(0.0),
        presence_penalty: sampling.presence_penalty.unwrap_or(0.0),
        biases: sampling
            .logit_bias
            .iter()
            .map(|bias| (bias.token, bias.bias))
            .collect(),
    })
}

#[cfg(test)]
mod tests;
