//! How long a waiting job will wait, from how long jobs of its model hold a slot.
//!
//! Slots come free one after another, about evenly if there are many, and about at random in any case. So the n-th of
//! them takes n mean steps, give or take the square root of n. A model of which nothing is known promises nothing.

use protocol::WaitRange;

use crate::Millis;

/// The weight of the newest answer in the means.
const NEWEST_SHARE: f64 = 0.2;

/// How far off the mean the ends of a range lie, in standard deviations: about nine waits of ten fall between them.
const DEVIATIONS: f64 = 1.65;

/// Nobody is told of a longer wait than this; it means "too long".
const WAIT_MS_MAX: f64 = 24.0 * 60.0 * 60.0 * 1_000.0;

/// Ranges that differ by less than this, or by less than a quarter, are the same to whoever waits.
const NEWS_MS: u64 = 1_000;

/// What a model's jobs take.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    slot_ms: Option<f64>,
    answer_tokens: Option<f64>,
    /// Attempts that hold a slot.
    pub(crate) running: u32,
    /// When a job last left the line for a slot, or came to an empty one.
    pub(crate) moved_at: Millis,
}

impl Pace {
    /// An attempt gave its slot back after this time.
    pub(crate) fn learn_slot(&mut self, held_ms: Millis) {
        let held_ms = u32::try_from(held_ms).unwrap_or(u32::MAX);
        learn(&mut self.slot_ms, f64::from(held_ms));
    }

    /// An answer had this many tokens.
    pub(crate) fn learn_answer(&mut self, tokens: u32) {
        learn(&mut self.answer_tokens, f64::from(tokens));
    }

    /// Mean length of an answer.
    pub(crate) const fn answer_tokens(&self) -> Option<f64> {
        self.answer_tokens
    }

    /// When the `position`-th job in line will have a slot, of `slots` that can do it.
    pub(crate) fn wait(&self, now: Millis, position: u32, slots: u32) -> Option<WaitRange> {
        let slot_ms = self.slot_ms?;
        if slots == 0 || position == 0 {
            return None;
        }
        // Slots that other models use as well are ours for the share that we have of them now.
        let share = f64::from(self.running.saturating_add(1)) / f64::from(slots.saturating_add(1));
        let step_ms = slot_ms / f64::from(slots) / share.min(1.0);
        let stuck_ms = u32::try_from(now.saturating_sub(self.moved_at)).unwrap_or(u32::MAX);
        // A line that has not moved for several steps is slower than its past.
        let step_ms = step_ms.max(f64::from(stuck_ms) / 2.0);
        let (position, spread) = (f64::from(position), DEVIATIONS * f64::from(position).sqrt());
        Some(WaitRange {
            ms_min: whole(step_ms * (position - spread)),
            ms_max: whole(step_ms * (position + spread)),
        })
    }
}

/// Whether a range says something else than another to whoever waits.
pub(crate) fn is_news(told: Option<WaitRange>, now: Option<WaitRange>) -> bool {
    let differs = |told: u64, now: u64| {
        let by = told.abs_diff(now);
        by > NEWS_MS && by > told.max(now) / 4
    };
    match (told, now) {
        (None, None) => false,
        (Some(told), Some(now)) => {
            differs(told.ms_min, now.ms_min) || differs(told.ms_max, now.ms_max)
        }
        (Some(_), None) | (None, Some(_)) => true,
    }
}

fn learn(mean: &mut Option<f64>, sample: f64) {
    *mean = Some(mean.map_or(sample, |mean| mean + NEWEST_SHARE * (sample - mean)));
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what a u64 holds"
)]
fn whole(ms: f64) -> u64 {
    ms.clamp(0.0, WAIT_MS_MAX) as u64
}

#[cfg(test)]
mod tests;
