//! Answers as their readers saw them, and the figures that follow. The rig's own `rig bench` computes the same.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde::Deserialize;

use super::words::question;

/// What the demo's model's own template puts around a question.
const BEFORE: &str = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face\
                      <|im_end|>\n<|im_start|>user\n";
const AFTER: &str = "<|im_end|>\n<|im_start|>assistant\n";

/// Tokens of the template and of the number in front, in the demo's model.
const AROUND_TOKENS: u32 = 35;

/// Numbers in front of questions have as many digits, so that each is as long as the next.
const NUMBER_MIN: u64 = 1000;
const NUMBER_COUNT: u64 = 9000;

/// What a user says so that the demo's model reads about `tokens` tokens.
pub(super) fn message(tokens: u32, number: u64) -> String {
    let number = NUMBER_MIN + number % NUMBER_COUNT;
    question(tokens.saturating_sub(AROUND_TOKENS), number)
}

/// The same as the model reads it, for engines without its template.
pub(super) fn prompt(tokens: u32, number: u64) -> String {
    format!("{BEFORE}{}{AFTER}", message(tokens, number))
}

/// One answer. Times are milliseconds of one clock.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Stream {
    pub(super) asked_ms: f64,
    pub(super) first_ms: f64,
    pub(super) last_ms: f64,
    pub(super) tokens: u32,
    pub(super) prompt_tokens: u32,
}

/// Lets a user ask each question, some time after the one before, and waits for all answers. What asks gets the moment
/// from which times count.
pub(super) fn at_once<Q: Sync>(
    questions: &[Q],
    stagger_ms: u32,
    ask: impl Fn(&Q, Instant) -> Result<Stream> + Sync,
) -> Result<Vec<Stream>> {
    let (began, ask) = (Instant::now(), &ask);
    thread::scope(|scope| {
        let mut users = Vec::new();
        for (number, question) in (0..).zip(questions) {
            users.push(scope.spawn(move || {
                let due = Duration::from_millis(u64::from(stagger_ms) * number);
                thread::sleep(due.saturating_sub(began.elapsed()));
                ask(question, began)
            }));
        }
        users
            .into_iter()
            .map(|user| user.join().map_err(|_| anyhow!("a user panicked"))?)
            .collect()
    })
}

/// Milliseconds between two moments.
pub(super) fn ms_since(began: Instant, at: Instant) -> f64 {
    at.duration_since(began).as_secs_f64() * 1e3
}

/// What some answers at once come to. The names are those of `rig bench --json`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(super) struct Figures {
    /// Tokens of the first prompt.
    pub(super) prompt_tokens: u32,
    /// All prompts' tokens over the time to the last first token.
    pub(super) prompt_tokens_per_s: f64,
    /// The answers' tokens but for each one's first, over the time from the first first token to the last token.
    pub(super) generate_tokens_per_s: f64,
    /// The answers' tokens over the time from the first question to the last token.
    pub(super) total_tokens_per_s: f64,
    /// From a question to its first token.
    pub(super) first_token_ms_median: f64,
}

impl Figures {
    /// Computes them.
    pub(super) fn of(streams: &[Stream]) -> Self {
        let lowest = |of: fn(&Stream) -> f64| streams.iter().map(of).fold(f64::INFINITY, f64::min);
        let highest = |of: fn(&Stream) -> f64| streams.iter().map(of).fold(0.0, f64::max);
        let sum = |of: fn(&Stream) -> u32| f64::from(streams.iter().map(of).sum::<u32>());
        let (began, first) = (lowest(|s| s.asked_ms), lowest(|s| s.first_ms));
        let (last_first, last) = (highest(|s| s.first_ms), highest(|s| s.last_ms));
        let generated = sum(|s| s.tokens);
        let without_first = sum(|s| s.tokens.saturating_sub(1));
        let waits = streams.iter().map(|s| s.first_ms - s.asked_ms).collect();
        Self {
            prompt_tokens: streams.first().map_or(0, |s| s.prompt_tokens),
            prompt_tokens_per_s: sum(|s| s.prompt_tokens) * 1e3 / (last_first - began),
            generate_tokens_per_s: without_first * 1e3 / (last - first),
            total_tokens_per_s: generated * 1e3 / (last - began),
            first_token_ms_median: median(waits).unwrap_or(f64::NAN),
        }
    }
}

/// The value in the middle; of an even number, the lower of the two.
pub(super) fn median(values: Vec<f64>) -> Option<f64> {
    quantile(values, 50)
}

/// The value below which so many per cent lie (nearest rank).
pub(super) fn quantile(mut values: Vec<f64>, percent: usize) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_count_from_the_first_question_and_rates_from_the_first_token() {
        let stream = |asked_ms, first_ms, last_ms| Stream {
            asked_ms,
            first_ms,
            last_ms,
            tokens: 11,
            prompt_tokens: 100,
        };
        let figures = Figures::of(&[
            stream(1000.0, 1100.0, 2100.0),
            stream(1050.0, 1250.0, 1600.0),
        ]);
        let expected = Figures {
            prompt_tokens: 100,
            prompt_tokens_per_s: 800.0,
            generate_tokens_per_s: 20.0,
            total_tokens_per_s: 20.0,
            first_token_ms_median: 100.0,
        };
        assert_eq!(figures, expected);
    }

    #[test]
    fn a_quantile_is_one_of_the_values_and_nothing_has_none() {
        let values = vec![4.0, 1.0, f64::NAN, 3.0, 2.0];
        assert_eq!(quantile(values.clone(), 0), Some(1.0));
        assert_eq!(median(values.clone()), Some(2.0));
        assert_eq!(quantile(values, 100), Some(4.0));
        assert_eq!(median(vec![f64::NAN]), None);
    }

    #[test]
    fn questions_differ_from_their_first_word_on_and_are_equally_long() {
        let (one, two) = (message(64, 1), message(64, 2));
        assert_ne!(one.get(..5), two.get(..5));
        assert_eq!(one.split(' ').count(), two.split(' ').count());
        assert!(prompt(64, 1).contains(&one));
    }
}
