//! Jobs that are over and acknowledged: their tickets are worth nothing any more.

use std::collections::{BTreeSet, VecDeque};

use protocol::JobId;

/// A pool ends a few jobs a second; this is some minutes of them, at 40 bytes each.
const KEPT: usize = 4_096;

/// The last jobs that ended, oldest first.
#[derive(Debug, Default)]
pub(crate) struct RecentlyEnded {
    order: VecDeque<JobId>,
    set: BTreeSet<JobId>,
}

impl RecentlyEnded {
    /// Notes that a job is over.
    pub(crate) fn insert(&mut self, job: JobId) {
        if self.set.insert(job) {
            self.order.push_back(job);
        }
        while self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.set.remove(&oldest);
            }
        }
    }

    /// The id is used again.
    pub(crate) fn remove(&mut self, job: JobId) {
        if self.set.remove(&job) {
            self.order.retain(|ended| *ended != job);
        }
    }

    /// Whether a job of this id ended lately.
    pub(crate) fn contains(&self, job: JobId) -> bool {
        self.set.contains(&job)
    }
}
