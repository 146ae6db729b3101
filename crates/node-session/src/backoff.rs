//! How long to wait before dialling again: decorrelated jitter, so that nodes which fell together do not rise together.

use rand::{Rng, RngExt};

use crate::Millis;

/// A pause that grows while dialling fails.
#[derive(Debug)]
pub(crate) struct Backoff {
    ms_min: Millis,
    ms_max: Millis,
    last: Millis,
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
        }
    }

    /// The next pause: between the least and three times the last one.
    pub(crate) fn next(&mut self, rng: &mut impl Rng) -> Millis {
        let most = self.last.saturating_mul(3).min(self.ms_max);
        self.last = rng.random_range(self.ms_min..=most);
        self.last
    }

    /// The connection was a good one.
    pub(crate) const fn reset(&mut self) {
        self.last = self.ms_min;
    }
}
