//! How a node knows that the relay does not keep up, long before its kernel's buffers are full.
//!
//! Every few frames it sends a WebSocket ping, which the relay's runtime answers by itself and in its turn: what was
//! sent before has been taken then. While more than a window of frames is unconfirmed the socket counts as busy, and
//! what the engine makes gathers into one frame. A node that the relay keeps up with never waits.

use bytes::Bytes;

/// Frames between two pings.
const PING_FRAMES: u64 = 8;

/// Unconfirmed frames at which the socket is busy.
const FRAMES_MAX: u64 = 16;

/// One connection's frames.
#[derive(Debug, Default)]
pub struct Window {
    sent: u64,
    confirmed: u64,
    is_full: bool,
}

impl Window {
    /// A frame was sent; the ping to send after it, if one is due.
    pub fn sent(&mut self) -> Option<Bytes> {
        self.sent += 1;
        self.is_full = self.sent - self.confirmed >= FRAMES_MAX;
        let is_due = self.sent.is_multiple_of(PING_FRAMES);
        is_due.then(|| Bytes::copy_from_slice(&self.sent.to_le_bytes()))
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
        let was_full = std::mem::replace(&mut self.is_full, self.sent - self.confirmed >= FRAMES_MAX);
        was_full && !self.is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_window_opens_when_the_relay_answers() {
        let mut window = Window::default();
        let pings: Vec<Bytes> = (0..FRAMES_MAX).filter_map(|_| window.sent()).collect();
        assert!(window.is_full());
        let [first, ..] = &pings[..] else {
            panic!("no ping in a whole window");
        };
        assert!(window.confirm(first));
        assert!(!window.is_full());
        assert!(!window.confirm(b"junk"), "nothing was waiting");
    }
}
