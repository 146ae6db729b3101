//! What a run says in the end.

#![expect(
    clippy::cast_precision_loss,
    reason = "counts and times of a run of seconds are far below 2^52"
)]

use serde_json::{Value, json};

use crate::usage::Usage;

/// One chat as its user saw it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// From the request to the first token.
    pub first_ns: Option<u64>,
    /// Of each token: from its stamp until its bytes were read.
    pub latency_ns: Vec<u64>,
    /// When the last token was read.
    pub last_ns: u64,
    /// How many pieces the answer came in.
    pub reads: u64,
    /// Tokens out of order, and events that could not be read.
    pub disorder: u64,
    /// Whether the end was said.
    pub done: bool,
    /// Why it broke.
    pub error: Option<String>,
    next: u32,
}

impl Outcome {
    /// Has room for so many tokens, so that nothing is copied while the clock runs.
    pub fn expecting(tokens: u32) -> Self {
        Self {
            latency_ns: Vec::with_capacity(tokens as usize),
            ..Self::default()
        }
    }

    /// A token was read.
    pub fn token(&mut self, made_ns: u64, index: u32, at_ns: u64, began_ns: u64) {
        self.first_ns.get_or_insert(at_ns.saturating_sub(began_ns));
        self.disorder += u64::from(index != self.next);
        self.next = index.saturating_add(1);
        self.latency_ns.push(at_ns.saturating_sub(made_ns));
        self.last_ns = at_ns;
    }
}

/// A whole run.
#[derive(Debug)]
pub struct Run {
    /// When it began.
    pub began_ns: u64,
    /// Tokens that each chat should have had.
    pub tokens_each: u32,
    /// What the relay under test used meanwhile, where its process is known.
    pub usage: Option<Usage>,
    /// Every chat.
    pub outcomes: Vec<Outcome>,
}

impl Run {
    /// The figures.
    pub fn figures(&self) -> Value {
        let mut latency: Vec<u64> = self
            .outcomes
            .iter()
            .flat_map(|outcome| outcome.latency_ns.iter().copied())
            .collect();
        latency.sort_unstable();
        let mut first: Vec<u64> = self
            .outcomes
            .iter()
            .filter_map(|outcome| outcome.first_ns)
            .collect();
        first.sort_unstable();
        let last = self.outcomes.iter().map(|outcome| outcome.last_ns).max();
        let wall_ns = last.unwrap_or(0).saturating_sub(self.began_ns).max(1);
        let tokens = latency.len();
        let truncated = self.outcomes.iter().filter(|outcome| {
            outcome.error.is_none()
                && (!outcome.done || outcome.latency_ns.len() != self.tokens_each as usize)
        });
        json!({
            "chats": self.outcomes.len(),
            "tokens": tokens,
            "tokens_per_s": rounded(tokens as f64 * 1e9 / wall_ns as f64, 0),
            "first_ms_p50": percentile_ms(&first, 50),
            "first_ms_p99": percentile_ms(&first, 99),
            "latency_ms_p50": percentile_ms(&latency, 50),
            "latency_ms_p99": percentile_ms(&latency, 99),
            "latency_ms_max": percentile_ms(&latency, 100),
            "cpu_us_per_token": self.usage.map(|usage| rounded(usage.cpu_ns as f64 / 1e3 / tokens.max(1) as f64, 1)),
            "peak_mib": self.usage.map(|usage| usage.peak_kib / 1024),
            "reads": self.outcomes.iter().map(|outcome| outcome.reads).sum::<u64>(),
            "errors": self.outcomes.iter().filter(|outcome| outcome.error.is_some()).count(),
            "truncated": truncated.count(),
            "disorder": self.outcomes.iter().map(|outcome| outcome.disorder).sum::<u64>(),
            "first_error": self.outcomes.iter().find_map(|outcome| outcome.error.clone()),
        })
    }
}

fn percentile_ms(sorted: &[u64], percent: usize) -> Option<f64> {
    let index = (sorted.len().saturating_sub(1) * percent + 50) / 100;
    sorted.get(index).map(|ns| rounded(*ns as f64 / 1e6, 3))
}

fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_and_a_swapped_token_are_told() {
        let mut whole = Outcome::expecting(3);
        let mut swapped = Outcome::expecting(3);
        for index in 0..3 {
            let at = u64::from(index) * 1_000_000;
            whole.token(at, index, at + 500_000, 0);
            swapped.token(at, index ^ 1, at, 0);
        }
        (whole.done, swapped.done) = (true, true);
        swapped.latency_ns.pop();
        let run = Run {
            began_ns: 0,
            tokens_each: 3,
            usage: None,
            outcomes: vec![whole, swapped],
        };
        let figures = run.figures();
        assert_eq!(figures["truncated"], 1);
        assert_eq!(figures["disorder"], 3);
        assert_eq!(figures["latency_ms_max"], 0.5);
    }
}
