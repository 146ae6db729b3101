//! What happens because time passed.

use protocol::{CloseCode, ErrorCode, Failure};

use crate::Scheduler;
use crate::attempts::SlotFate;
use crate::timers::Timer;

impl Scheduler {
    pub(crate) fn tick(&mut self) {
        while let Some(timer) = self.timers.pop_due(self.now) {
            match timer {
                Timer::Attempt(alias) => self.check_attempt(alias),
                Timer::Grace(job) => self.grace_ended(job),
                Timer::Held(job) => self.held_long_enough(job),
                Timer::Stranded(job) => self.stranded(job),
                Timer::Announced(job) => self.release_announced(job),
                Timer::SlowReader(job) => self.read_too_slowly(job),
                Timer::Places(model) => {
                    self.lines.tail_due.insert(model);
                }
                Timer::Finished(job) => self.forget_finished(job),
                Timer::Quarantine(node) => self.refresh_node(node),
                Timer::Silence(peer) => self.check_silence(peer),
            }
        }
    }

    /// A lease that was renewed meanwhile is looked at again later. One that ran out costs the node the job; a second
    /// one without the slot coming free costs it the connection.
    fn check_attempt(&mut self, alias: protocol::Alias) {
        let Some(attempt) = self.attempts.get(&alias) else {
            return;
        };
        let is_paused = attempt
            .job
            .and_then(|id| self.jobs.get(&id))
            .is_some_and(|job| job.paused_at.is_some());
        if self.now < attempt.deadline {
            self.timers.set(Timer::Attempt(alias), attempt.deadline);
        } else if is_paused {
            // It waits for its reader, as it was told to: the lease stands still.
            let again = self.now.saturating_add(self.config.lease_ms);
            self.timers.set(Timer::Attempt(alias), again);
        } else if attempt.job.is_some() {
            self.counters.leases_expired += 1;
            let failure = Failure::new(
                ErrorCode::LeaseExpired,
                "the node made no progress for too long",
            );
            self.lose_attempt(alias, failure, SlotFate::UntilStopped);
        } else {
            let node = attempt.node;
            self.close_node(
                node,
                CloseCode::HeartbeatLost,
                "did not stop a job when told to",
            );
        }
    }
}
