//! What the relay says: assignments, cancels, acknowledgements.

use protocol::limits::RELAY_FRAME_BYTES_MAX;
use protocol::{
    Alias, Answer, ChatRequest, ErrorCode, Failure, JobId, NodeToRelay, RelayToNode, Usage, decode,
};

use crate::buffer::ResendBuffer;
use crate::job::{Job, Pending, Phase};
use crate::{JobKey, NodeSession, Output};

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
            RelayToNode::Assign { .. }
            | RelayToNode::CheckPrompt { .. }
            | RelayToNode::Cancel { .. }
            | RelayToNode::Acknowledge { .. }
                if !self.is_up() =>
            {
                self.ignored += 1;
            }
            RelayToNode::Assign {
                job,
                attempt: _,
                alias,
                model,
                lease_ms: _,
                request,
                answer,
                ..
            } => self.assign(job, alias, model, request, answer),
            RelayToNode::CheckPrompt {
                check,
                model,
                request,
            } => self.outputs.push_back(Output::Check {
                check,
                model,
                request: Box::new(request),
            }),
            RelayToNode::Cancel { alias } => self.cancel(alias),
            RelayToNode::Acknowledge { alias, offset, .. } => self.acknowledge(alias, offset),
            RelayToNode::Pong => {}
            RelayToNode::Adopt { .. }
            | RelayToNode::Fence { .. }
            | RelayToNode::Merge { .. }
            | RelayToNode::Unknown => self.ignored += 1,
        }
    }

    fn assign(
        &mut self,
        id: JobId,
        alias: Alias,
        model: String,
        request: ChatRequest,
        answer: Option<Answer>,
    ) {
        if self.aliases.contains_key(&alias) {
            // The same frame twice: the first one counts.
            self.ignored += 1;
            return;
        }
        if let Err(failure) = self.check_assignment(&model, &request) {
            self.send(&NodeToRelay::Failed { alias, failure });
            return;
        }
        self.finished.remove(&alias);
        let key = JobKey(self.next_key);
        self.next_key += 1;
        self.aliases.insert(alias, key);
        let pending = Pending {
            job: id,
            model,
            request: Box::new(request),
            answer: answer.map(Box::new),
        };
        self.jobs.insert(
            key,
            Job {
                alias: Some(alias),
                phase: Phase::Waiting(Box::new(pending)),
                offset: 0,
                buffer: ResendBuffer::default(),
            },
        );
        self.start_waiting();
    }

    fn check_assignment(&self, model: &str, request: &ChatRequest) -> Result<(), Failure> {
        if self.is_draining {
            let message = "this node stops and takes no more work";
            return Err(Failure::new(ErrorCode::Draining, message));
        }
        if !self.config.models.iter().any(|offer| offer.model == model) {
            let message = "this node does not offer that model";
            return Err(Failure::new(ErrorCode::EngineFailed, message));
        }
        if self.aliases.len() >= self.slots() {
            let message = "all slots of this node are taken";
            return Err(Failure::new(ErrorCode::EngineFailed, message));
        }
        request.validate().map_err(|invalid| {
            Failure::new(ErrorCode::InvalidRequest, invalid.message).with_param(invalid.param)
        })
    }

    /// Starts jobs while the engine has a free place.
    pub(crate) fn start_waiting(&mut self) {
        let mut in_engine = self.jobs.values().filter(|job| job.is_in_engine()).count();
        let slots = self.slots();
        for (&key, job) in &mut self.jobs {
            if in_engine >= slots {
                return;
            }
            if job.is_in_engine() {
                continue;
            }
            if let Phase::Waiting(pending) = std::mem::replace(&mut job.phase, Phase::Started) {
                in_engine += 1;
                let Pending {
                    job,
                    model,
                    request,
                    answer,
                } = *pending;
                self.outputs.push_back(Output::Start {
                    key,
                    job,
                    model,
                    request,
                    answer,
                });
            }
        }
    }

    fn cancel(&mut self, alias: Alias) {
        // A finished job's bytes are wanted by nobody after a cancel.
        self.finished.remove(&alias);
        let Some(&key) = self.aliases.get(&alias) else {
            self.ignored += 1;
            return;
        };
        let Some(job) = self.jobs.get_mut(&key) else {
            return;
        };
        match job.phase {
            Phase::Waiting(_) => {
                self.forget_job(key);
                let usage = Usage::default();
                self.send(&NodeToRelay::Cancelled { alias, usage });
                self.end_if_drained();
            }
            Phase::Started | Phase::Accepted => {
                job.phase = Phase::Stopping;
                job.buffer = ResendBuffer::default();
                self.outputs.push_back(Output::Stop { key });
            }
            Phase::Stopping => self.ignored += 1,
        }
    }

    fn acknowledge(&mut self, alias: Alias, offset: u32) {
        let job = self
            .aliases
            .get(&alias)
            .and_then(|key| self.jobs.get_mut(key));
        if let Some(job) = job {
            job.buffer.release(offset.min(job.offset));
        } else if let Some(finished) = self.finished.get_mut(&alias) {
            finished.buffer.release(offset);
            if finished.buffer.is_empty() {
                self.finished.remove(&alias);
            }
        } else {
            self.ignored += 1;
        }
    }

    /// The connection ended: the engine stops, and what the relay has not passed on is dropped.
    ///
    /// This is the place where jobs will instead be kept and announced again on the next connection.
    pub(crate) fn drop_jobs(&mut self) {
        self.aliases.clear();
        self.finished.clear();
        self.jobs.retain(|_, job| job.is_in_engine());
        for (&key, job) in &mut self.jobs {
            job.alias = None;
            job.buffer = ResendBuffer::default();
            match job.phase {
                Phase::Started | Phase::Accepted => {
                    job.phase = Phase::Stopping;
                    self.outputs.push_back(Output::Stop { key });
                }
                Phase::Stopping | Phase::Waiting(_) => {}
            }
        }
    }

    pub(crate) fn forget_job(&mut self, key: JobKey) -> Option<Job> {
        let job = self.jobs.remove(&key)?;
        if let Some(alias) = job.alias {
            self.aliases.remove(&alias);
        }
        Some(job)
    }

    fn slots(&self) -> usize {
        usize::try_from(self.config.slots).unwrap_or(usize::MAX)
    }
}
