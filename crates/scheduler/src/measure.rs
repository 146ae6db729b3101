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
    paused_at: Option<Millis>,
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

    /// The node waits for its reader from now on.
    pub(crate) fn pause(&mut self, now: Millis) {
        self.paused_at.get_or_insert(now);
    }

    /// The node goes on: the time since [`Self::pause`] is not its own.
    pub(crate) fn resume(&mut self, now: Millis) {
        if let (Some(paused_at), Some(span)) = (self.paused_at.take(), &mut self.span) {
            let pause = now.saturating_sub(paused_at);
            span.first_at += pause;
            span.last_at += pause;
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
