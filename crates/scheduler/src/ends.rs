//! How attempts and jobs end: a whole answer, a refusal, a loss that another node makes good, a failure.

use protocol::{Alias, ErrorCode, Failure, FinishReason, JobId, RelayToClient, Usage};

use crate::attempts::{STRANDED_MS, SlotFate};
use crate::job::{AnsweredBy, Finished, Job};
use crate::karma::{Fault, Outcome};
use crate::resume::too_long_to_go_on;
use crate::timers::Timer;
use crate::{Scheduler, SocketId};

/// Ends that one client leaves unacknowledged; the oldest goes first.
const FINISHED_PER_CLIENT_MAX: usize = 64;

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
        let (node, id, is_in_place) = (attempt.node, attempt.job, offset == attempt.offset);
        let Some(id) = id else { return };
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let counted = attempt.accepted.map(|accepted| Usage {
            prompt_tokens: accepted.prompt_tokens,
            completion_tokens: job.transcript.token_count(),
            // Free for the node to say, and free of charge: it changes no bill.
            cached_tokens: usage.cached_tokens.min(accepted.prompt_tokens),
        });
        let Some(counted) = counted.filter(|_| is_in_place) else {
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
        let end = RelayToClient::Completed {
            job: id,
            offset,
            finish_reason,
            usage: counted,
            speed: attempt.speed(job),
        };
        let by = self.answered_by(id, alias, Some(node));
        let model = attempt.model;
        self.end_attempt(alias);
        let Some(job) = self.take_job(id) else { return };
        self.outcome(node, Outcome::Good);
        let pace = &mut self.models[model].pace;
        // Vectors are no tokens, and would make every expected answer shorter.
        if counted.completion_tokens > 0 {
            pace.learn_answer(counted.completion_tokens);
        }
        self.counters.completed += 1;
        if let Some(owner) = job.owner {
            self.tell_client(owner, end.clone());
        }
        self.keep_finished(id, job, by, end);
    }

    fn answered_by(&self, id: JobId, alias: Alias, node: Option<SocketId>) -> Option<AnsweredBy> {
        let offset = self.jobs.get(&id)?.transcript.offset();
        Some(AnsweredBy {
            alias,
            node,
            assigned: self.assigned(id, alias, offset)?,
        })
    }

    /// Keeps what a client needs that comes back after the end of its job.
    fn keep_finished(&mut self, id: JobId, job: Job, by: Option<AnsweredBy>, end: RelayToClient) {
        self.finished_bytes += job.transcript_bytes;
        if let Some(client) = job.owner.and_then(|owner| self.clients.get_mut(&owner)) {
            client.finished.push_back(id);
            let oldest = client.finished.front().copied();
            if client.finished.len() > FINISHED_PER_CLIENT_MAX
                && let Some(oldest) = oldest
            {
                self.forget_finished(oldest);
            }
        }
        // Until the last moment at which its client can be found to be gone, and can have come back.
        let patience = self.config.client_silent_ms_max + self.config.grace_ms;
        let until = self.now.saturating_add(patience);
        let finished = Finished {
            owner: job.owner,
            account: job.account,
            by,
            transcript: job.transcript,
            transcript_bytes: job.transcript_bytes,
            acknowledged: job.acknowledged,
            end,
            until,
        };
        self.finished.insert(id, finished);
        self.finished_order.insert((until, id));
        self.timers.set(Timer::Finished(id), until);
        self.trim_finished();
    }

    /// What is under way needs the room more than what is over: the texts that were kept longest go first. (Their nodes
    /// may still have them.)
    pub(crate) fn trim_finished(&mut self) {
        while self.finished_bytes > 0
            && self.content_bytes + self.finished_bytes > self.config.content_bytes_max
        {
            let Some(&(_, oldest)) = self.finished_order.first() else {
                return;
            };
            self.forget_finished(oldest);
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
                let job = id.and_then(|id| self.jobs.get(&id));
                if job.is_some_and(Job::has_begun) {
                    // Another node took this request: it is this one that cannot.
                    self.lose_attempt(alias, failure, SlotFate::Free);
                    return;
                }
                self.end_attempt(alias);
                if let Some(id) = id {
                    self.fail(id, failure);
                }
            }
            ErrorCode::Draining => {
                let is_setback = self.node_drains(alias);
                self.lose(alias, failure, SlotFate::Free, is_setback);
            }
            ErrorCode::EngineFailed => self.lose_attempt(alias, failure, SlotFate::Free),
            ErrorCode::UnknownJob => self.disowned(alias),
            // It is busy with what others gave it: another node's turn, and nobody's fault.
            ErrorCode::QueueFull | ErrorCode::MemoryFull => {
                self.lose(alias, failure, SlotFate::Free, false);
            }
            // Not a node's to say: taken as a broken engine.
            ErrorCode::UnknownModel
            | ErrorCode::TooLarge
            | ErrorCode::Unauthorized
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
        let Some(id) = id else { return };
        if self.jobs.get(&id).is_some_and(Job::has_begun) {
            // Another node read this prompt: it is this one's room that is too small.
            self.lose_attempt(alias, failure, SlotFate::Free);
            return;
        }
        self.end_attempt(alias);
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

    /// The node takes no more work. Whether that costs the job an attempt: not where it never began.
    fn node_drains(&mut self, alias: Alias) -> bool {
        let Some(attempt) = self.attempts.get(&alias) else {
            return false;
        };
        if let Some(node) = self.nodes.get_mut(&attempt.node) {
            node.draining = true;
        }
        let refused = attempt.job.filter(|_| attempt.accepted.is_none());
        if let Some(job) = refused.and_then(|id| self.jobs.get_mut(&id)) {
            job.refusals += 1;
        }
        refused.is_none()
    }

    /// The attempt will not end well. Its job is tried again or fails.
    pub(crate) fn lose_attempt(&mut self, alias: Alias, failure: Failure, slot: SlotFate) {
        self.lose(alias, failure, slot, true);
    }

    fn lose(&mut self, alias: Alias, failure: Failure, slot: SlotFate, is_setback: bool) {
        let Some(attempt) = self.attempts.get(&alias) else {
            return;
        };
        let (Some(id), node) = (attempt.job, attempt.node) else {
            return;
        };
        self.outcome(node, blame(failure.code));
        match slot {
            SlotFate::Free => self.end_attempt(alias),
            SlotFate::UntilStopped => self.stop_attempt(alias),
        }
        self.retry_or_fail(id, node, failure, is_setback);
    }

    /// Back to the head of the queue with the answer so far, if another node can go on with it and attempts are left.
    pub(crate) fn retry_or_fail(
        &mut self,
        id: JobId,
        lost_by: SocketId,
        failure: Failure,
        is_setback: bool,
    ) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.setbacks += u32::from(is_setback);
        let attempts = job.attempts.saturating_sub(job.refusals);
        if job.setbacks >= self.config.attempts_max || attempts >= self.config.attempts_in_all_max {
            self.fail(id, failure);
            return;
        }
        if job.has_begun() {
            if job.transcript.answer(None).is_none() {
                self.fail(id, too_long_to_go_on());
                return;
            }
            job.need = job.need.with_continuation();
        }
        job.avoid = Some(lost_by);
        self.counters.requeued += 1;
        self.enqueue(id);
    }

    /// The node that came back has another answer than the client: nobody is at fault, the client's counts.
    fn disowned(&mut self, alias: Alias) {
        let id = self.attempts.get(&alias).and_then(|attempt| attempt.job);
        self.end_attempt(alias);
        let Some(job) = id.and_then(|id| self.jobs.get_mut(&id)) else {
            return;
        };
        job.refusals += 1;
        let can_go_on = !job.has_begun() || job.transcript.answer(None).is_some();
        if job.has_begun() {
            job.need = job.need.with_continuation();
        }
        match id {
            Some(id) if can_go_on => self.enqueue(id),
            Some(id) => self.fail(id, too_long_to_go_on()),
            None => {}
        }
    }

    /// A begun answer still waits. In a line that moves it has its place; else nobody is left who could go on with it.
    pub(crate) fn stranded(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        if job
            .choices
            .iter()
            .any(|model| self.models[*model].can(job.need))
        {
            let again = self.now.saturating_add(STRANDED_MS);
            self.timers.set(Timer::Stranded(id), again);
            return;
        }
        let failure = Failure::new(
            ErrorCode::NodeLost,
            "the node was lost, and no other has come that could go on with the answer; ask for the rest",
        );
        self.fail(id, failure);
    }

    /// Ends a job badly and tells its client; one that is away, or whose socket is dead unbeknown to us, hears it when it
    /// comes back.
    pub(crate) fn fail(&mut self, id: JobId, failure: Failure) {
        let Some(job) = self.take_job(id) else { return };
        self.counters.failed += 1;
        self.recently_ended.insert(id, Some(failure.clone()));
        if let Some(owner) = job.owner {
            self.tell_client(owner, RelayToClient::Failed { job: id, failure });
        }
    }
}

/// What a lost attempt says about its node.
const fn blame(code: ErrorCode) -> Outcome {
    match code {
        ErrorCode::EngineFailed => Outcome::Bad(Fault::Broken),
        ErrorCode::ProtocolError => Outcome::Bad(Fault::Misfit),
        ErrorCode::LeaseExpired => Outcome::Bad(Fault::Stalled),
        ErrorCode::NodeLost => Outcome::Bad(Fault::Lost),
        // Busy, draining; the client's or the relay's fault.
        ErrorCode::QueueFull
        | ErrorCode::MemoryFull
        | ErrorCode::Draining
        | ErrorCode::InvalidRequest
        | ErrorCode::UnknownModel
        | ErrorCode::ContextLengthExceeded
        | ErrorCode::CapabilityMissing
        | ErrorCode::TooLarge
        | ErrorCode::Unauthorized
        | ErrorCode::UnknownJob
        | ErrorCode::DuplicateJob
        | ErrorCode::Cancelled
        | ErrorCode::ClientGone
        | ErrorCode::SlowReader
        | ErrorCode::Internal
        | ErrorCode::Unknown => Outcome::Neutral,
    }
}
