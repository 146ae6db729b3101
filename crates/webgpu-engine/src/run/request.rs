//! What is asked of a session: a prompt, and how tokens are drawn.

use super::RunError;
use crate::kernels::{ALTERNATIVES_MAX, Flags, RECORDS, Step};
use crate::reference::sampling::Rules;

/// The most tokens that share one read-back: half of the ring, so that one group can be read while the next is written.
const SHARED_MAX: u32 = RECORDS / 2;

/// The most biases of a request, as many as the API takes.
const BIASES_MAX: usize = 1024;

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What the model reads.
    pub prompt: Vec<u32>,
    /// Tokens of the answer that were drawn before, by whomever. They are read, and draws go on behind them.
    pub given: Vec<u32>,
    /// How tokens are drawn.
    pub rules: Rules,
    /// What draws depend on, beside their place in the answer.
    pub seed: u64,
    /// Tokens of the answer, the given ones among them.
    pub tokens_max: u32,
    /// How many alternatives are told with each token, and its log-probability; none tells neither.
    pub alternatives: Option<u32>,
    /// Whether every token is drawn from a mask that the caller gives.
    pub is_masked: bool,
    /// Tokens that share one read-back, 1 to 8. More is for browsers in which waiting for the device takes long.
    pub shared: u32,
    /// Whether the end of the text is a token as any other.
    pub ignores_end: bool,
}

impl Request {
    /// A greedy answer.
    pub fn greedy(prompt: Vec<u32>, tokens_max: u32) -> Self {
        Self {
            prompt,
            given: Vec::new(),
            rules: Rules {
                temperature: 0.0,
                ..Rules::default()
            },
            seed: 0,
            tokens_max,
            alternatives: None,
            is_masked: false,
            shared: 1,
            ignores_end: false,
        }
    }

    pub(super) fn check(&self, vocabulary: u32) -> Result<(), RunError> {
        let rules = &self.rules;
        let is_share = |share: f32| (0.0..=1.0).contains(&share);
        let numbers = [rules.frequency_penalty, rules.presence_penalty];
        let biases = rules.biases.iter();
        if self.prompt.is_empty() {
            return Err(RunError::Empty);
        }
        if !(rules.temperature >= 0.0 && rules.temperature.is_finite()) {
            return Err(RunError::Rules("a temperature is a number from 0 on"));
        }
        if !is_share(rules.top_p) || !is_share(rules.min_p) {
            return Err(RunError::Rules("top_p and min_p are numbers from 0 to 1"));
        }
        if !numbers.iter().all(|number| number.is_finite()) {
            return Err(RunError::Rules("penalties are numbers"));
        }
        if rules.biases.len() > BIASES_MAX {
            return Err(RunError::Rules("at most 1,024 tokens have a bias"));
        }
        if !biases
            .clone()
            .all(|(id, bias)| *id < vocabulary && !bias.is_nan())
        {
            return Err(RunError::Rules(
                "biases are numbers for tokens of the vocabulary",
            ));
        }
        if !(1..=SHARED_MAX).contains(&self.shared) {
            return Err(RunError::Rules("1 to 8 tokens share a read-back"));
        }
        if self.alternatives > Some(ALTERNATIVES_MAX) {
            return Err(RunError::Rules("at most 20 alternatives are told"));
        }
        Ok(())
    }

    pub(super) fn has_penalties(&self) -> bool {
        self.rules.frequency_penalty != 0.0 || self.rules.presence_penalty != 0.0
    }

    pub(super) fn parameters(&self) -> Step {
        let mut flags = Flags::default();
        let mut set = |is_set: bool, flag: Flags| {
            if is_set {
                flags = flags.with(flag);
            }
        };
        set(!self.rules.biases.is_empty(), Flags::BIASES);
        set(self.is_masked, Flags::MASK);
        set(self.has_penalties(), Flags::PENALTIES);
        set(self.alternatives.is_some(), Flags::LOG_PROBABILITIES);
        Step {
            seed: self.seed,
            flags,
            temperature: self.rules.temperature,
            top_p: self.rules.top_p,
            min_p: self.rules.min_p,
            top_k: self.rules.top_k,
            frequency_penalty: self.rules.frequency_penalty,
            presence_penalty: self.rules.presence_penalty,
            alternatives: self.alternatives.unwrap_or(0),
            ..Step::default()
        }
    }
}
