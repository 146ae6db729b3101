//! How long to wait before dialling again: decorrelated jitter, so that nodes which fell together do not rise together.

use rand::{Rng, RngExt};

use crate::Millis;

/// The first pause after a good connection: a restarted relay is back at once, and a thousand nodes come one by one.
const FIRST_MS: std::ops::RangeInclusive<Millis> = 50..=500;

/// A pause that grows while dialling fails.
#[derive(Debug)]
pub(crate) struct Backoff {
    ms_min: Millis,
    ms_max: Millis,
    last: Millis,
    was_good: bool,
}

impl Backoff {
    /// Settings that make no sense are bent, so that no setting dials without a pause.
    pub(crate) fn new(ms_min: Millis, ms_max: Millis) -> Self {
        let ms_min = ms_min.max(1);
        let ms_max = ms_max.max(ms_min);
        Self {
            ms_min,
            ms_max,
            last: ms_min,
            was_good: false,
        }
    }

    /// The next pause: a short one after a good connection, then between the least and three times the last one.
    pub(crate) fn next(&mut self, rng: &mut impl Rng) -> Millis {
        if std::mem::take(&mut self.was_good) {
            self.last = self.ms_min;
            return rng.random_range(FIRST_MS).min(self.ms_max);
        }
        let most = self.last.saturating_mul(3).min(self.ms_max);
        self.last = rng.random_range(self.ms_min..=most);
        self.last
    }

    /// The connection was a good one.
    pub(crate) const fn reset(&mut self) {
        self.was_good = true;
    }
}
