//! One job as its client sees it: what has arrived, what has been acknowledged.

use protocol::limits::ACKNOWLEDGE_BYTES;
use protocol::{Alias, Entry};

use crate::Millis;

/// An acknowledgement is sent at most this often while an answer comes; its end is always acknowledged.
const ACKNOWLEDGE_MS_MIN: Millis = 1_000;

/// Where an answer stands.
#[derive(Debug, Default)]
pub(crate) struct Job {
    /// The present attempt's name in token frames.
    pub(crate) alias: Option<Alias>,
    /// Bytes received in order.
    pub(crate) received: u32,
    acknowledged: u32,
    acknowledged_at: Millis,
}

impl Job {
    /// The bytes of an entry that are new; `None` where bytes before it are missing or its numbers make no sense.
    pub(crate) fn accept<'a>(&mut self, entry: &Entry<'a>) -> Option<&'a [u8]> {
        let end = entry.end_offset()?;
        let known = usize::try_from(self.received.checked_sub(entry.offset)?).ok()?;
        self.received = self.received.max(end);
        Some(entry.bytes.get(known..).unwrap_or_default())
    }

    /// The offset to acknowledge, once enough bytes and time have passed.
    pub(crate) fn acknowledge_now_and_then(&mut self, now: Millis) -> Option<u32> {
        let pending = self.received - self.acknowledged;
        let rested = now.saturating_sub(self.acknowledged_at) >= ACKNOWLEDGE_MS_MIN;
        (pending >= ACKNOWLEDGE_BYTES && rested)
            .then(|| self.acknowledge_all(now))
            .flatten()
    }

    /// The offset to acknowledge, unless it has been.
    pub(crate) fn acknowledge_all(&mut self, now: Millis) -> Option<u32> {
        let pending = self.received != self.acknowledged;
        self.acknowledged = self.received;
        self.acknowledged_at = now;
        pending.then_some(self.received)
    }
}
