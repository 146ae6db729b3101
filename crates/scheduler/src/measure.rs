//! How fast a node reads and writes, by the relay's clock: tokens, not frames. Reading (prefill) is the time from the
//! assignment to the first token; writing (decode) what comes after it. Queues, pauses and tools are in neither.

use crate::Millis;

/// The weight of the newest sample. With 0.3 a node that slows down is known for it after about five answers.
const NEWEST_SHARE: f32 = 0.3;

/// Fewer tokens than this after the first frame say more about the network than about the node.
const SAMPLE_TOKENS_MIN: u32 = 4;

/// Nor does a shorter time: deltas may be merged over about half of it.
const SAMPLE_MS_MIN: Millis = 100;

/// A shorter prompt is read in no time; its first token tells of the network.
const PREFILL_TOKENS_MIN: u32 = 64;

/// No node in use reads faster.
const PREFILL_MAX: f32 = 100_000.0;

/// Tokens without bytes that are believed: control tokens, and those that begin a character.
const SILENT_TOKENS_MAX: u32 = 8;

/// Counts one attempt's tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    began_at: Millis,
    span: Option<Span>,
    tokens: u32,
    bytes: u32,
    /// Tokens of the answer so far, which this attempt reads again after the prompt.
    reread_tokens: u32,
    paused_since: Option<Millis>,
    /// Pauses before the first token.
    paused_reading_ms: Millis,
    /// Pauses after it.
    paused_writing_ms: Millis,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    first_at: Millis,
    last_at: Millis,
    tokens_at_first: u32,
}

impl Meter {
    /// An attempt begins; it goes on from `reread_tokens` of an earlier one's.
    pub(crate) const fn begin(now: Millis, reread_tokens: u32) -> Self {
        Self {
            began_at: now,
            span: None,
            tokens: 0,
            bytes: 0,
            reread_tokens,
            paused_since: None,
            paused_reading_ms: 0,
            paused_writing_ms: 0,
        }
    }

    /// The same, where somebody forgot that the tokens before this attempt were another's.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn unless_reset(mut self, now: Millis, is_forgotten: bool) -> Self {
        if is_forgotten && self.reread_tokens > 0 {
            (self.tokens, self.bytes) = (self.reread_tokens, u32::MAX);
            self.span = Some(Span {
                first_at: now,
                last_at: now,
                tokens_at_first: 0,
            });
        }
        self
    }

    /// Tokens came.
    pub(crate) fn add(&mut self, now: Millis, tokens: u32, bytes: u32) {
        self.bytes = self.bytes.saturating_add(bytes);
        if tokens == 0 {
            return;
        }
        // What was on its way comes in a pause too.
        if self.paused_since.is_some() {
            self.resume(now);
            self.paused_since = Some(now);
        }
        self.tokens = self.tokens.saturating_add(tokens);
        let believed = self.believed();
        match &mut self.span {
            Some(span) => span.last_at = now,
            None => {
                self.span = Some(Span {
                    first_at: now,
                    last_at: now,
                    tokens_at_first: believed,
                });
            }
        }
    }

    /// The node is not to go on: for a reader who is behind, or a tool at work. Its speed is not to suffer.
    pub(crate) fn pause(&mut self, now: Millis) {
        self.paused_since.get_or_insert(now);
    }

    /// It may go on.
    pub(crate) fn resume(&mut self, now: Millis) {
        let Some(since) = self.paused_since.take() else {
            return;
        };
        let paused_ms = now.saturating_sub(since);
        if self.span.is_some() {
            self.paused_writing_ms = self.paused_writing_ms.saturating_add(paused_ms);
        } else {
            self.paused_reading_ms = self.paused_reading_ms.saturating_add(paused_ms);
        }
    }

    /// Whoever sends ids without text is not the faster for it.
    fn believed(&self) -> u32 {
        self.tokens
            .min(self.bytes.saturating_add(SILENT_TOKENS_MAX))
    }

    /// Tokens after the first frame, and the time that they took.
    fn written(&self) -> Option<(u32, Millis)> {
        let span = self.span?;
        let tokens = self.believed().saturating_sub(span.tokens_at_first);
        let elapsed_ms = span.last_at.saturating_sub(span.first_at);
        Some((tokens, elapsed_ms.saturating_sub(self.paused_writing_ms)))
    }

    /// Tokens per second after the first frame; `None` where there was only one moment.
    pub(crate) fn rate(&self) -> Option<f64> {
        let (tokens, elapsed_ms) = self.written()?;
        (tokens > 0).then_some(())?;
        per_second(tokens, elapsed_ms)
    }

    /// The rate, if it rests on enough to judge a node by.
    fn decode_sample(&self) -> Option<f64> {
        let (tokens, elapsed_ms) = self.written()?;
        self.rate()
            .filter(|_| tokens >= SAMPLE_TOKENS_MIN && elapsed_ms >= SAMPLE_MS_MIN)
    }

    fn prefill_sample(&self, prompt_tokens: u32) -> Option<f64> {
        let elapsed_ms = self.span?.first_at.saturating_sub(self.began_at);
        let tokens = prompt_tokens.saturating_add(self.reread_tokens);
        per_second(tokens, elapsed_ms.saturating_sub(self.paused_reading_ms))
            .filter(|_| tokens >= PREFILL_TOKENS_MIN)
    }
}

fn per_second(tokens: u32, elapsed_ms: Millis) -> Option<f64> {
    let elapsed_ms = u32::try_from(elapsed_ms).unwrap_or(u32::MAX);
    (elapsed_ms > 0).then(|| f64::from(tokens) * 1_000.0 / f64::from(elapsed_ms))
}

/// A node's speed at one model: averages in which old samples fade. Tokens per second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Speedometer {
    decode: Option<f32>,
    prefill: Option<f32>,
}

impl Speedometer {
    /// Takes in an attempt that ended. A rate above `decode_max` is taken for it.
    pub(crate) fn learn(&mut self, meter: &Meter, prompt_tokens: Option<u32>, decode_max: f64) {
        if let Some(sample) = meter.decode_sample() {
            learn(&mut self.decode, sample.min(decode_max));
        }
        let prefill = prompt_tokens.and_then(|tokens| meter.prefill_sample(tokens));
        if let Some(sample) = prefill {
            learn(&mut self.prefill, sample.min(f64::from(PREFILL_MAX)));
        }
    }

    /// How fast it writes.
    pub(crate) fn decode(&self) -> Option<f64> {
        self.decode.map(f64::from)
    }

    /// How fast it reads.
    pub(crate) fn prefill(&self) -> Option<f64> {
        self.prefill.map(f64::from)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "seven digits of a speed are enough, and halve what an idle node takes"
)]
fn learn(average: &mut Option<f32>, sample: f64) {
    let sample = sample as f32;
    *average = Some(average.map_or(sample, |old| old + NEWEST_SHARE * (sample - old)));
}

#[cfg(test)]
mod tests;
