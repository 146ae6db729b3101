//! How often is tried, and how long is waited in between.

use std::time::Duration;

use crate::fetch::Settings;

/// Tries in a row that brought nothing.
pub(super) struct Tries {
    pub(super) failed: u32,
    /// Connections fail together, which is one try.
    together: u32,
    limit: u32,
    pause: Duration,
}

impl Tries {
    pub(super) fn new(settings: &Settings, together: u32) -> Self {
        Self {
            failed: 0,
            together: together.max(1),
            limit: settings.tries.saturating_mul(together.max(1)),
            pause: settings.pause,
        }
    }

    /// The pause before the next try; none where there shall be none.
    pub(super) fn next_pause(&mut self, wished: Option<Duration>) -> Option<Duration> {
        self.failed += 1;
        if self.failed >= self.limit {
            return None;
        }
        let doublings = (self.failed.saturating_sub(1) / self.together).min(16);
        let pause = self.pause.saturating_mul(1 << doublings);
        Some(wished.unwrap_or(pause.min(Settings::PAUSE_MAX)))
    }
}
