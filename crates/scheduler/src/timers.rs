//! What falls due when. One entry per subject, so that nothing stale fires.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{Alias, JobId};

use crate::models::ModelIndex;
use crate::{Millis, SocketId};

/// Whose time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// An attempt's lease, or its time to stop.
    Attempt(Alias),
    /// A job without a client.
    Grace(JobId),
    /// A job that waits for a node which may still have its answer.
    Held(JobId),
    /// An answer that has begun and waits in line: it must not wait for ever for somebody who can go on with it.
    Stranded(JobId),
    /// A node's answer that waits for its client.
    Announced(JobId),
    /// A client that is a window behind.
    SlowReader(JobId),
    /// A line that moved, whose tail was not told.
    Places(ModelIndex),
    /// An answer that its client has not acknowledged.
    Finished(JobId),
    /// A node's quarantine.
    Quarantine(SocketId),
    /// A peer that may have fallen silent.
    Silence(SocketId),
}

/// Both directions, each O(log n).
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(Millis, Timer)>,
    by_timer: BTreeMap<Timer, Millis>,
}

impl Timers {
    /// Sets or moves a timer.
    pub(crate) fn set(&mut self, timer: Timer, at: Millis) {
        self.clear(timer);
        self.due.insert((at, timer));
        self.by_timer.insert(timer, at);
    }

    /// Forgets a timer.
    pub(crate) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.by_timer.remove(&timer) {
            self.due.remove(&(at, timer));
        }
    }

    /// When a timer fires.
    pub(crate) fn at(&self, timer: Timer) -> Option<Millis> {
        self.by_timer.get(&timer).copied()
    }

    /// The earliest moment at which something falls due.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the earliest timer that is due.
    pub(crate) fn pop_due(&mut self, now: Millis) -> Option<Timer> {
        let (at, timer) = *self.due.first()?;
        (at <= now).then(|| {
            self.clear(timer);
            timer
        })
    }

    /// Whose timers are set.
    #[cfg(test)]
    pub(crate) fn subjects(&self) -> impl Iterator<Item = Timer> {
        self.by_timer.keys().copied()
    }
}
