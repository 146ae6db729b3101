//! Jobs outlive connections: what happens to them when one is lost, and how the next one takes them over.
//!
//! ```text
//! lost ──▶ detached ── hello, announce ──▶ adopt ──▶ goes on under a new alias
//!              │ 60 s                    └▶ fence ──▶ stopped and forgotten
//!              └──▶ stopped and forgotten
//! ```

use protocol::{Alias, AnswerHash, ErrorCode, Failure, JobId, NodeToRelay};

use crate::engine::ENDED_KEPT_MS;
use crate::job::{Job, Phase};
use crate::stream::Position;
use crate::{JobKey, Millis, NodeSession};

/// A running job that no connection takes over by then is dropped: its relay has given it to another node.
const DETACHED_KEPT_MS: Millis = 60_000;

/// While draining, a client gets this long to acknowledge the end of its answer.
const LINGER_MS: Millis = 5_000;

/// What an `adopt` says.
pub(crate) struct Adoption {
    pub(crate) id: JobId,
    pub(crate) attempt: u32,
    pub(crate) alias: Alias,
    pub(crate) window_bytes: u32,
    pub(crate) position: Position,
    pub(crate) hash: AnswerHash,
}

impl NodeSession {
    /// The connection ended. Jobs go on, and nothing is said of them until another relay takes them over.
    pub(crate) fn detach_jobs(&mut self) {
        self.outbox = crate::outbox::Outbox::default();
        self.aliases.clear();
        self.promised.clear();
        for relays in self.checks.values_mut() {
            *relays = None;
        }
        let drop_at = self.now.saturating_add(DETACHED_KEPT_MS);
        for job in self.jobs.values_mut() {
            job.alias = None;
            match job.phase {
                Phase::Waiting(_) | Phase::Started | Phase::Accepted { .. } => {
                    // A connection that adopts nothing gives no new time.
                    job.drop_at.get_or_insert(drop_at);
                }
                Phase::Stopping | Phase::Ended(_) => {}
            }
        }
    }

    /// Says in `hello` how many will be announced.
    pub(crate) fn promise_announcements(&mut self) -> u32 {
        let adoptable = self.jobs.iter().filter(|(_, job)| job.is_adoptable());
        self.promised = adoptable
            .map(|(key, job)| (*key, job.announcement()))
            .collect();
        u32::try_from(self.promised.len()).unwrap_or(u32::MAX)
    }

    /// Announces as many as were promised: the relay gives no work before. What broke in between is announced as ended,
    /// and found missing when it is adopted.
    pub(crate) fn announce_promised(&mut self) {
        for (key, mut announcement) in std::mem::take(&mut self.promised) {
            match self.jobs.get(&key).filter(|job| job.is_adoptable()) {
                Some(job) => announcement = job.announcement(),
                None => {
                    if let NodeToRelay::Announce { ended, .. } = &mut announcement {
                        *ended = true;
                    }
                }
            }
            self.send(&announcement);
        }
    }

    fn adoptable(&self, id: JobId, attempt: u32) -> Option<JobKey> {
        let mut jobs = self.jobs.iter();
        jobs.find(|(_, job)| job.id == id && job.attempt == attempt && job.is_adoptable())
            .map(|(key, _)| *key)
    }

    pub(crate) fn adopt(&mut self, adoption: &Adoption) {
        let Adoption {
            id,
            attempt,
            alias,
            window_bytes,
            position,
            hash,
        } = *adoption;
        if self.aliases.contains_key(&alias) {
            self.ignored += 1;
            return;
        }
        let window_bytes = self.window(window_bytes);
        let now = self.now;
        let key = self.adoptable(id, attempt);
        let found = key.and_then(|key| Some((key, self.jobs.get_mut(&key)?)));
        let agreeing = found.filter(|(_, job)| job.stream.agrees(position, hash));
        let Some((key, job)) = agreeing else {
            if let Some(key) = key {
                // The client's text is another one: this attempt can be of no use to anybody.
                self.drop_job(key);
            }
            let message = "this node does not have that answer";
            let failure = Failure::new(ErrorCode::UnknownJob, message);
            self.send(&NodeToRelay::Failed { alias, failure });
            return;
        };
        if let Some(old) = job.alias.replace(alias) {
            self.aliases.remove(&old);
        }
        job.window_bytes = window_bytes;
        job.drop_at = None;
        if let Phase::Ended(ended) = &mut job.phase {
            ended.at = now;
            job.drop_at = Some(now.saturating_add(ENDED_KEPT_MS));
        }
        job.stream.resume(position);
        let has_unsent = job.stream.has_unsent();
        self.aliases.insert(alias, key);
        self.say_accepted(key);
        if has_unsent {
            self.mark_unsent(key);
        }
        self.say_completed(key);
        self.pause_or_go_on(key);
    }

    pub(crate) fn fence(&mut self, id: JobId, attempt: u32) {
        let announced = self.adoptable(id, attempt);
        let is_ours = |key: &JobKey| self.jobs.get(key).is_some_and(|job| job.alias.is_none());
        // An attempt that has a name on this connection is cancelled by that name.
        match announced.filter(is_ours) {
            Some(key) => self.drop_job(key),
            None => self.ignored += 1,
        }
    }

    pub(crate) fn tick_jobs(&mut self) {
        let now = self.now;
        let is_due = |job: &Job| job.drop_at.is_some_and(|at| at <= now);
        let due: Vec<JobKey> = (self.jobs.iter())
            .filter_map(|(key, job)| is_due(job).then_some(*key))
            .collect();
        for key in due {
            self.drop_job(key);
        }
    }

    /// When jobs need [`crate::Input::Tick`].
    pub(crate) fn jobs_due(&self) -> Option<Millis> {
        let drops = self.jobs.values().filter_map(|job| job.drop_at).min();
        let lingers = self.jobs.values().filter_map(|job| self.linger_due(job));
        // One that is over holds nothing up any more; what else does is waited for by its own time.
        let lingers = lingers.filter(|due| *due > self.now);
        drops.into_iter().chain(lingers).min()
    }

    /// Until when a drain waits for the acknowledgement of an end that was said.
    fn linger_due(&self, job: &Job) -> Option<Millis> {
        let ended = job.ended().filter(|_| self.is_draining)?;
        job.alias.map(|_| ended.at.saturating_add(LINGER_MS))
    }

    /// Whether a drain waits for this job.
    pub(crate) fn holds_up_drain(&self, job: &Job) -> bool {
        match job.phase {
            Phase::Waiting(_) | Phase::Started | Phase::Accepted { .. } => true,
            Phase::Stopping => job.alias.is_some(),
            Phase::Ended(_) => self.linger_due(job).is_none_or(|due| self.now < due),
        }
    }
}
