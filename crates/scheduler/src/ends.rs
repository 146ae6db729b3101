//! How attempts and jobs end: a whole answer, a refusal, a loss that another node makes good, a failure.

use protocol::{Alias, ErrorCode, Failure, FinishReason, JobId, RelayToClient, Usage};

use crate::attempts::SlotFate;
use crate::job::Finished;
use crate::timers::Timer;
use crate::{Millis, Scheduler, SocketId};

/// An answer that its client never acknowledges is forgotten after this; nodes keep it about as long.
const FINISHED_KEPT_MS: Millis = 60_000;

impl Scheduler {
    /// The node says that the answer is whole.
    pub(crate) fn completed(
        &mut self,
        alias: Alias,
        offset: u32,
        finish_reason: FinishReason,
        usage: Usage,
    ) {
        let Some(attempt) = self.attempts.get(&alias) else {
            return;
        };
        let counted = attempt.accepted.map(|accepted| Usage {
            prompt_tokens: accepted.prompt_tokens,
            completion_tokens: attempt.meter.tokens(),
        });
        let Some(counted) = counted.filter(|_| offset == attempt.offset) else {
            self.counters.protocol_errors += 1;
            let failure = Failure::new(
                ErrorCode::EngineFailed,
                "the node's answer ended where its stream did not",
            );
            self.lose_attempt(alias, failure, SlotFate::Free);
            return;
        };
        if usage != counted {
            self.counters.usage_mismatches += 1;
        }
        let (node, id) = (attempt.node, attempt.job);
        let Some(job) = id.and_then(|id| self.jobs.get(&id)) else {
            return;
        };
        let speed = attempt.speed(job);
        self.end_attempt(alias);
        let Some((id, job)) = id.and_then(|id| Some((id, self.take_job(id)?))) else {
            return;
        };
        self.counters.completed += 1;
        let Some(owner) = job.owner else { return };
        let end = RelayToClient::Completed {
            job: id,
            offset,
            finish_reason,
            usage: counted,
            speed,
        };
        self.tell_client(owner, end.clone());
        if job.acknowledged < offset {
            self.keep_finished(
                id,
                Finished {
                    owner,
                    alias,
                    node: Some(node),
                    offset,
                    acknowledged: job.acknowledged,
                    end,
                },
            );
        }
    }

    fn keep_finished(&mut self, id: JobId, finished: Finished) {
        if let Some(client) = self.clients.get_mut(&finished.owner) {
            client.finished.insert(id);
            self.finished.insert(id, finished);
            let until = self.now.saturating_add(FINISHED_KEPT_MS);
            self.timers.set(Timer::Finished(id), until);
        }
    }

    /// The node says that it cannot. What is the request's fault goes to the client as it is; what is the node's, to
    /// another node.
    pub(crate) fn node_failed(&mut self, alias: Alias, failure: Failure) {
        let failure = failure.bounded();
        match failure.code {
            ErrorCode::ContextLengthExceeded => self.too_long_for(alias, failure),
            ErrorCode::InvalidRequest | ErrorCode::CapabilityMissing => {
                let id = self.attempts.get(&alias).and_then(|attempt| attempt.job);
                self.end_attempt(alias);
                if let Some(id) = id {
                    self.fail(id, failure);
                }
            }
            ErrorCode::Draining => {
                self.node_drains(alias);
                self.lose_attempt(alias, failure, SlotFate::Free);
            }
            ErrorCode::EngineFailed => self.lose_attempt(alias, failure, SlotFate::Free),
            // Not a node's to say: taken as a broken engine.
            ErrorCode::UnknownModel
            | ErrorCode::QueueFull
            | ErrorCode::MemoryFull
            | ErrorCode::TooLarge
            | ErrorCode::Unauthorized
            | ErrorCode::UnknownJob
            | ErrorCode::DuplicateJob
            | ErrorCode::ProtocolError
            | ErrorCode::NodeLost
            | ErrorCode::LeaseExpired
            | ErrorCode::Cancelled
            | ErrorCode::ClientGone
            | ErrorCode::SlowReader
            | ErrorCode::Internal
            | ErrorCode::Unknown => {
                let failure = Failure::new(ErrorCode::EngineFailed, failure.message);
                self.lose_attempt(alias, failure, SlotFate::Free);
            }
        }
    }

    /// The prompt is too long for this model: another of its tier may have more room.
    fn too_long_for(&mut self, alias: Alias, failure: Failure) {
        let Some(attempt) = self.attempts.get(&alias) else {
            return;
        };
        let (id, model, is_fresh) = (attempt.job, attempt.model, attempt.accepted.is_none());
        self.end_attempt(alias);
        let Some(id) = id else { return };
        if is_fresh && self.rule_out(id, model) {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.refusals += 1;
            }
            self.counters.requeued += 1;
            self.enqueue(id);
        } else {
            self.fail(id, failure);
        }
    }

    /// The node takes no more work. Where it never began this attempt, that costs the job nothing.
    fn node_drains(&mut self, alias: Alias) {
        let Some(attempt) = self.attempts.get(&alias) else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(&attempt.node) {
            node.draining = true;
        }
        let refused = attempt.job.filter(|_| attempt.accepted.is_none());
        if let Some(job) = refused.and_then(|id| self.jobs.get_mut(&id)) {
            job.refusals += 1;
        }
    }

    /// The attempt will not end well. Its job is tried again or fails.
    pub(crate) fn lose_attempt(&mut self, alias: Alias, failure: Failure, slot: SlotFate) {
        let Some(attempt) = self.attempts.get(&alias) else {
            return;
        };
        let (Some(id), node) = (attempt.job, attempt.node) else {
            return;
        };
        match slot {
            SlotFate::Free => self.end_attempt(alias),
            SlotFate::UntilStopped => self.stop_attempt(alias),
        }
        self.retry_or_fail(id, node, failure);
    }

    /// Back to the head of the queue, if nothing of the answer was passed on and attempts are left.
    ///
    /// A job whose answer has begun fails here for now: the place where it will be *continued* from `job.delivered`.
    pub(crate) fn retry_or_fail(&mut self, id: JobId, lost_by: SocketId, failure: Failure) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.delivered > 0 || job.attempts - job.refusals >= self.config.attempts_max {
            self.fail(id, failure);
            return;
        }
        job.avoid = Some(lost_by);
        self.counters.requeued += 1;
        self.enqueue(id);
    }

    /// Ends a job badly and tells its client.
    pub(crate) fn fail(&mut self, id: JobId, failure: Failure) {
        let Some(job) = self.take_job(id) else { return };
        self.counters.failed += 1;
        if let Some(owner) = job.owner {
            self.tell_client(owner, RelayToClient::Failed { job: id, failure });
        }
    }
}
