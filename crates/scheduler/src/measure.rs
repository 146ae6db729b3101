//! Decode speed by the relay's clock: tokens, not frames, and neither queue nor prompt time.

use crate::Millis;

/// The weight of the newest sample. With 0.3 a node that slows down is known for it after about five answers.
const NEWEST_SHARE: f64 = 0.3;

/// Fewer tokens than this after the first frame say more about the network than about the node.
const SAMPLE_TOKENS_MIN: u32 = 4;

/// Counts one attempt's tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meter {
    span: Option<Span>,
    tokens: u32,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    first_at: Millis,
    last_at: Millis,
    tokens_at_first: u32,
}

impl Meter {
    /// Tokens came.
    pub(crate) fn add(&mut self, now: Millis, tokens: u32) {
        if tokens == 0 {
            return;
        }
        self.tokens = self.tokens.saturating_add(tokens);
        match &mut self.span {
            Some(span) => span.last_at = now,
            None => {
                self.span = Some(Span {
                    first_at: now,
                    last_at: now,
                    tokens_at_first: tokens,
                });
            }
        }
    }

    /// All tokens so far.
    pub(crate) const fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Tokens per second after the first frame; `None` where there was only one moment.
    pub(crate) fn rate(&self) -> Option<f64> {
        let span = self.span?;
        let elapsed_ms = u32::try_from(span.last_at - span.first_at).unwrap_or(u32::MAX);
        let tokens = self.tokens - span.tokens_at_first;
        (elapsed_ms > 0 && tokens > 0).then(|| f64::from(tokens) * 1_000.0 / f64::from(elapsed_ms))
    }

    /// The rate, if it rests on enough tokens to judge a node by.
    fn sample(&self) -> Option<f64> {
        let tokens = self.tokens - self.span?.tokens_at_first;
        self.rate().filter(|_| tokens >= SAMPLE_TOKENS_MIN)
    }
}

/// A node's speed at one model: an average in which old samples fade.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Speedometer {
    tokens_per_second: Option<f64>,
}

impl Speedometer {
    /// Takes in a finished attempt.
    pub(crate) fn learn(&mut self, meter: &Meter) {
        if let Some(sample) = meter.sample() {
            self.tokens_per_second = Some(match self.tokens_per_second {
                Some(old) => old + NEWEST_SHARE * (sample - old),
                None => sample,
            });
        }
    }

    /// What was measured so far.
    pub(crate) const fn tokens_per_second(&self) -> Option<f64> {
        self.tokens_per_second
    }
}

#[cfg(test)]
mod tests;
