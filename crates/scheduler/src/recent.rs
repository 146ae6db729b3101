//! Jobs that are over: their tickets are worth nothing any more, but that they tell how a job failed whose client did not
//! hear it.

use std::collections::{BTreeMap, VecDeque};

use protocol::{Failure, JobId};

/// A pool ends a few jobs a second; this is some minutes of them, mostly at 60 bytes each.
const KEPT: usize = 4_096;

/// The last jobs that ended, oldest first.
#[derive(Debug, Default)]
pub(crate) struct RecentlyEnded {
    order: VecDeque<JobId>,
    ends: BTreeMap<JobId, Option<Failure>>,
}

impl RecentlyEnded {
    /// Notes that a job is over, and how it failed where it did.
    pub(crate) fn insert(&mut self, job: JobId, failure: Option<Failure>) {
        if self.ends.insert(job, failure).is_none() {
            self.order.push_back(job);
        }
        while self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.ends.remove(&oldest);
            }
        }
    }

    /// The id is used again.
    pub(crate) fn remove(&mut self, job: JobId) {
        if self.ends.remove(&job).is_some() {
            self.order.retain(|ended| *ended != job);
        }
    }

    /// Whether a job of this id ended lately.
    pub(crate) fn contains(&self, job: JobId) -> bool {
        self.ends.contains_key(&job)
    }

    /// How a job of this id failed lately.
    pub(crate) fn failure(&self, job: JobId) -> Option<&Failure> {
        self.ends.get(&job)?.as_ref()
    }
}
