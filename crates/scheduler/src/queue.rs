//! One model's waiting jobs, in the order of their submission.
//!
//! A job that comes back keeps its number and so stands at the head again. Each need has a line of its own, so that the
//! next job that *can* be placed is found at once.

use std::collections::{BTreeMap, BTreeSet};

use protocol::JobId;

use crate::placement::Need;

/// A job's number in the order of submission, over all models.
pub(crate) type Ticket = u64;

/// Who waits.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeMap<Ticket, JobId>,
    /// By what the jobs need; never an empty line.
    lines: BTreeMap<Need, BTreeSet<Ticket>>,
}

impl Queue {
    /// Takes a job in. Whether it is the last, so that nobody else's place changes.
    pub(crate) fn insert(&mut self, ticket: Ticket, job: JobId, need: Need) -> bool {
        self.waiting.insert(ticket, job);
        self.lines.entry(need).or_default().insert(ticket);
        self.waiting.last_key_value().map(|(last, _)| *last) == Some(ticket)
    }

    /// Takes a job out.
    pub(crate) fn remove(&mut self, ticket: Ticket, need: Need) -> Option<JobId> {
        if let Some(line) = self.lines.get_mut(&need) {
            line.remove(&ticket);
            if line.is_empty() {
                self.lines.remove(&need);
            }
        }
        self.waiting.remove(&ticket)
    }

    /// The first job with exactly this need.
    pub(crate) fn first(&self, need: Need) -> Option<Ticket> {
        self.lines.get(&need)?.first().copied()
    }

    /// What the waiting jobs need.
    pub(crate) fn needs(&self) -> impl Iterator<Item = Need> + '_ {
        self.lines.keys().copied()
    }

    /// Whose ticket this is.
    pub(crate) fn job(&self, ticket: Ticket) -> Option<JobId> {
        self.waiting.get(&ticket).copied()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Who waits, with places that count from 1.
    pub(crate) fn places(&self) -> impl Iterator<Item = (u32, JobId)> {
        (1..).zip(self.waiting.values().copied())
    }

    /// One job's place.
    pub(crate) fn place(&self, ticket: Ticket) -> u32 {
        u32::try_from(self.waiting.range(..=ticket).count()).unwrap_or(u32::MAX)
    }
}
