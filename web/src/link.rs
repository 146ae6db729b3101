//! Where the connection to the relay stands, and how long to wait before the next try.

/// The connection as a person sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Link {
    /// The first try.
    #[default]
    Connecting,
    /// Jobs can be sent.
    Open,
    /// It was lost; the next try comes by itself.
    Reconnecting,
    /// The browser says that there is no network.
    Offline,
    /// The relay wants a key, or another one.
    KeyNeeded {
        /// One was shown and refused.
        refused: bool,
    },
    /// The relay will not have this page as it is.
    Broken {
        /// The WebSocket's close code.
        code: u16,
    },
}

/// The first pause, doubled at each failure up to the longest.
const PAUSE_MS_MIN: f64 = 400.0;
const PAUSE_MS_MAX: f64 = 20_000.0;

/// Milliseconds until the next try. `random` is 0 to 1: pages that lost the same relay must not return at the same moment.
pub fn pause_ms(failures: u32, random: f64) -> f64 {
    let doubled = PAUSE_MS_MIN * 2_f64.powi(i32::try_from(failures.min(16)).unwrap_or(16));
    doubled.min(PAUSE_MS_MAX) * (0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ_between_pages() {
        assert!(pause_ms(0, 0.0) < pause_ms(0, 1.0));
        assert!(pause_ms(3, 0.5) < pause_ms(4, 0.5));
        assert!((pause_ms(u32::MAX, 1.0) - PAUSE_MS_MAX).abs() < 1.0);
    }
}
