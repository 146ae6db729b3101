//! What the relay says: assignments, cancels, acknowledgements, questions.

use protocol::limits::{RELAY_FRAME_BYTES_MAX, TICKET_BYTES_MAX};
use protocol::{
    Alias, ErrorCode, Failure, JobId, JobRequest, NodeToRelay, RelayToNode, Usage, decode,
};

use crate::job::{Job, Pending, Phase};
use crate::returning::Adoption;
use crate::stream::{Position, Stream};
use crate::{JobKey, NodeSession, Output};

/// Unacknowledged bytes of all running answers together: where there are many slots, windows are smaller.
const WINDOWS_BYTES_MAX: u32 = 16 << 20;

/// Questions that the engine may be working on; the relay asks one at a time, on each connection.
const CHECKS_MAX: usize = 4;

/// What an assignment brings.
struct Assignment {
    id: JobId,
    attempt: u32,
    alias: Alias,
    window_bytes: u32,
    ticket: String,
    pending: Pending,
}

impl NodeSession {
    pub(crate) fn relay_text(&mut self, text: &str) {
        self.heard();
        match decode::<RelayToNode>(text, RELAY_FRAME_BYTES_MAX) {
            Ok(message) => self.relay_said(message),
            Err(_) => self.ignored += 1,
        }
    }

    fn relay_said(&mut self, message: RelayToNode) {
        match message {
            RelayToNode::Welcome { node, heartbeat_ms } => self.welcomed(node, heartbeat_ms),
            RelayToNode::Refused { failure } => {
                self.outputs.push_back(Output::Refused(failure.bounded()));
            }
            RelayToNode::Pong => {}
            RelayToNode::Unknown => self.ignored += 1,
            RelayToNode::Assign { .. }
            | RelayToNode::Adopt { .. }
            | RelayToNode::Fence { .. }
            | RelayToNode::Merge { .. }
            | RelayToNode::CheckPrompt { .. }
            | RelayToNode::Cancel { .. }
            | RelayToNode::Acknowledge { .. } => {
                if self.is_up() {
                    self.relay_wants(message);
                } else {
                    self.ignored += 1;
                }
            }
        }
    }

    /// Words that have a meaning after the welcome only.
    fn relay_wants(&mut self, message: RelayToNode) {
        match message {
            RelayToNode::Assign {
                job: id,
                attempt,
                alias,
                model,
                lease_ms: _,
                window_bytes,
                ticket,
                request,
                answer,
                prefix,
            } => self.assign(Assignment {
                id,
                attempt,
                alias,
                window_bytes,
                ticket,
                pending: Pending {
                    model,
                    request: Box::new(request),
                    answer: answer.map(Box::new),
                    prefix,
                },
            }),
            RelayToNode::Adopt {
                job: id,
                attempt,
                alias,
                lease_ms: _,
                window_bytes,
                offset,
                tokens,
                hash,
            } => self.adopt(&Adoption {
                id,
                attempt,
                alias,
                window_bytes,
                position: Position { offset, tokens },
                hash,
            }),
            RelayToNode::Fence { job, attempt, .. } => self.fence(job, attempt),
            RelayToNode::Merge { ms } => self.outbox.set_merge_ms(ms),
            RelayToNode::CheckPrompt {
                check,
                model,
                request,
            } => self.check_prompt(check, model, request),
            RelayToNode::Cancel { alias } => self.cancel(alias),
            RelayToNode::Acknowledge {
                alias,
                offset,
                whole,
            } => self.acknowledge(alias, offset, whole),
            RelayToNode::Welcome { .. }
            | RelayToNode::Refused { .. }
            | RelayToNode::Pong
            | RelayToNode::Unknown => {}
        }
    }

    fn assign(&mut self, assignment: Assignment) {
        let alias = assignment.alias;
        if self.aliases.contains_key(&alias) {
            // The same frame twice: the first one counts.
            self.ignored += 1;
            return;
        }
        // What is left here of an earlier attempt is no longer wanted, whether we heard of its end or not. One that was
        // told to stop goes on stopping under its name: the relay keeps its slot until it hears that it did.
        for key in self.attempts(assignment.id) {
            self.drop_job(key);
        }
        if let Err(failure) = self.check_assignment(&assignment) {
            self.send(&NodeToRelay::Failed { alias, failure });
            return;
        }
        let key = JobKey(self.next_key);
        self.next_key += 1;
        self.aliases.insert(alias, key);
        let job = Job {
            id: assignment.id,
            attempt: assignment.attempt,
            ticket: assignment.ticket,
            alias: Some(alias),
            stream: Stream::after(assignment.pending.answer.as_deref()),
            phase: Phase::Waiting(Box::new(assignment.pending)),
            window_bytes: self.window(assignment.window_bytes),
            is_paused: false,
            drop_at: None,
        };
        self.jobs.insert(key, job);
        self.start_waiting();
    }

    fn attempts(&self, id: JobId) -> Vec<JobKey> {
        let is_wanted_no_more = |job: &Job| job.id == id && job.is_adoptable();
        let of_job = self.jobs.iter().filter(|(_, job)| is_wanted_no_more(job));
        of_job.map(|(key, _)| *key).collect()
    }

    fn check_assignment(&self, assignment: &Assignment) -> Result<(), Failure> {
        let pending = &assignment.pending;
        if self.is_draining {
            let message = "this node stops and takes no more work";
            return Err(Failure::new(ErrorCode::Draining, message));
        }
        if assignment.ticket.len() > TICKET_BYTES_MAX {
            let message = "the ticket is over its limit";
            return Err(Failure::new(ErrorCode::ProtocolError, message));
        }
        let mut offers = self.config.models.iter();
        if !offers.any(|offer| offer.model == pending.model) {
            let message = "this node does not offer that model";
            return Err(Failure::new(ErrorCode::EngineFailed, message));
        }
        if self.jobs.values().filter(|job| job.holds_slot()).count() >= self.slots() {
            let message = "all slots of this node are taken";
            return Err(Failure::new(ErrorCode::EngineFailed, message));
        }
        if let Some(Err(invalid)) = pending.answer.as_ref().map(|answer| answer.validate()) {
            let failure = Failure::new(ErrorCode::InvalidRequest, invalid.to_string());
            return Err(failure.with_param("answer"));
        }
        pending.request.validate().map_err(|invalid| {
            Failure::new(ErrorCode::InvalidRequest, invalid.message).with_param(invalid.param)
        })
    }

    /// What a window may be here. Without any nothing would ever be sent.
    pub(crate) fn window(&self, asked: u32) -> u32 {
        asked.clamp(1, (WINDOWS_BYTES_MAX / self.config.slots.max(1)).max(1))
    }

    /// Starts jobs while the engine has a free place.
    pub(crate) fn start_waiting(&mut self) {
        let mut in_engine = self.jobs.values().filter(|job| job.is_in_engine()).count();
        let slots = self.slots();
        for (&key, job) in &mut self.jobs {
            if in_engine >= slots {
                return;
            }
            match job.phase {
                Phase::Waiting(_) => {}
                Phase::Started | Phase::Accepted { .. } | Phase::Stopping | Phase::Ended(_) => {
                    continue;
                }
            }
            if let Phase::Waiting(pending) = std::mem::replace(&mut job.phase, Phase::Started) {
                in_engine += 1;
                self.outputs.push_back(Output::Start {
                    key,
                    job: job.id,
                    attempt: job.attempt,
                    model: pending.model,
                    request: pending.request,
                    answer: pending.answer,
                    prefix: pending.prefix,
                });
            }
        }
    }

    fn check_prompt(&mut self, check: u32, model: String, request: JobRequest) {
        if self.checks.len() >= CHECKS_MAX {
            self.ignored += 1;
            return;
        }
        let ours = self.next_check;
        self.next_check = self.next_check.wrapping_add(1);
        self.checks.insert(ours, Some(check));
        self.outputs.push_back(Output::Check {
            check: ours,
            model,
            request: Box::new(request),
        });
    }

    pub(crate) fn checked(&mut self, ours: u32, failure: Option<Failure>) {
        match self.checks.remove(&ours) {
            Some(Some(check)) => {
                let failure = failure.map(Failure::bounded);
                self.send(&NodeToRelay::PromptChecked { check, failure });
            }
            // The relay that asked is gone.
            Some(None) => {}
            None => self.ignored += 1,
        }
    }

    fn cancel(&mut self, alias: Alias) {
        let named = self.aliases.get(&alias).copied();
        let Some((key, job)) = named.and_then(|key| Some((key, self.jobs.get_mut(&key)?))) else {
            self.ignored += 1;
            return;
        };
        match job.phase {
            Phase::Waiting(_) => {
                self.forget_job(key);
                let usage = Usage::default();
                self.send(&NodeToRelay::Cancelled { alias, usage });
            }
            Phase::Started | Phase::Accepted { .. } => {
                job.phase = Phase::Stopping;
                job.stream = Stream::default();
                self.outputs.push_back(Output::Stop { key });
            }
            Phase::Stopping => self.ignored += 1,
            // Its end is said already, and its bytes are wanted by nobody after a cancel.
            Phase::Ended(_) => self.forget_job(key),
        }
    }

    fn acknowledge(&mut self, alias: Alias, offset: u32, whole: bool) {
        let named = self.aliases.get(&alias).copied();
        let Some((key, job)) = named.and_then(|key| Some((key, self.jobs.get_mut(&key)?))) else {
            self.ignored += 1;
            return;
        };
        if !job.stream.acknowledge(offset) {
            // Nobody can have what was never sent.
            self.ignored += 1;
            return;
        }
        let has_all = whole && job.ended().is_some() && offset == job.stream.end().offset;
        if has_all {
            self.forget_job(key);
        } else {
            self.pause_or_go_on(key);
        }
    }

    /// Forgets a job without a word; the engine is stopped.
    pub(crate) fn drop_job(&mut self, key: JobKey) {
        let Some(job) = self.jobs.get_mut(&key) else {
            return;
        };
        if let Some(alias) = job.alias.take() {
            self.aliases.remove(&alias);
        }
        job.drop_at = None;
        job.stream = Stream::default();
        match job.phase {
            Phase::Waiting(_) | Phase::Ended(_) => {
                self.jobs.remove(&key);
            }
            Phase::Started | Phase::Accepted { .. } => {
                job.phase = Phase::Stopping;
                self.outputs.push_back(Output::Stop { key });
            }
            Phase::Stopping => {}
        }
    }

    /// Forgets a job that has no place in the engine any more.
    pub(crate) fn forget_job(&mut self, key: JobKey) {
        if let Some(alias) = self.jobs.remove(&key).and_then(|job| job.alias) {
            self.aliases.remove(&alias);
        }
    }

    fn slots(&self) -> usize {
        usize::try_from(self.config.slots).unwrap_or(usize::MAX)
    }
}
