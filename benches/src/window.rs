//! How a node knows that the relay does not keep up, long before its kernel's buffers are full.
//!
//! Every few frames it sends a WebSocket ping, which the relay's runtime answers by itself and in its turn: what was
//! sent before has been taken then. While more than a window of frames is unconfirmed the socket counts as busy, and
//! what the engine makes gathers into one frame. A node that the relay keeps up with never waits.

use std::time::Duration;

use bytes::Bytes;

/// Frames between two pings.
const PING_FRAMES: u64 = 8;

/// Unconfirmed frames at which the socket is busy.
const FRAMES_MAX: u64 = 16;

/// Frames that come less densely than [`PING_FRAMES`] in this time need no ping: no relay that works at all is slower.
const DENSE: Duration = Duration::from_millis(100);

/// One connection's frames.
#[derive(Debug, Default)]
pub struct Window {
    sent: u64,
    confirmed: u64,
    is_full: bool,
    /// When the first frame since the last ping was sent.
    since: Duration,
    unpinged: u64,
}

impl Window {
    /// A frame was sent, at a time of any monotonic clock; the ping to send after it, if one is due.
    pub fn sent(&mut self, now: Duration) -> Option<Bytes> {
        if self.unpinged == 0 {
            self.since = now;
        }
        self.sent += 1;
        self.unpinged += 1;
        if self.unpinged == PING_FRAMES {
            self.unpinged = 0;
            if now.saturating_sub(self.since) > DENSE {
                self.confirmed = self.sent;
            } else {
                self.is_full = self.sent - self.confirmed >= FRAMES_MAX;
                return Some(Bytes::copy_from_slice(&self.sent.to_le_bytes()));
            }
        }
        None
    }

    /// Whether frames have to wait.
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    /// A pong came; whether there is room again, where there was none.
    pub fn confirm(&mut self, payload: &[u8]) -> bool {
        if let Some(number) = payload.first_chunk() {
            self.confirmed = u64::from_le_bytes(*number).clamp(self.confirmed, self.sent);
        }
        let was_full =
            std::mem::replace(&mut self.is_full, self.sent - self.confirmed >= FRAMES_MAX);
        was_full && !self.is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_window_opens_when_the_relay_answers() {
        let mut window = Window::default();
        let now = Duration::ZERO;
        let pings: Vec<Bytes> = (0..FRAMES_MAX).filter_map(|_| window.sent(now)).collect();
        assert!(window.is_full());
        let [first, ..] = &pings[..] else {
            panic!("no ping in a whole window");
        };
        assert!(window.confirm(first));
        assert!(!window.is_full());
        assert!(!window.confirm(b"junk"), "nothing was waiting");
    }

    #[test]
    fn a_node_at_an_ordinary_speed_neither_asks_nor_waits() {
        let mut window = Window::default();
        for frame in 0..1000 {
            assert_eq!(window.sent(Duration::from_millis(20 * frame)), None);
            assert!(!window.is_full());
        }
    }
}
