//! Whether a waiting prompt fits. A busy node is asked, so that an impossible request is refused now and not after its
//! wait. What certainly fits is not asked about.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{ErrorCode, Failure, JobId, JobRequest, RelayToNode};

use crate::fairness::IMAGE_TOKENS_MAX;
use crate::models::ModelIndex;
use crate::queue::Ticket;
use crate::{Scheduler, SocketId};

/// Tokens that a chat template may add around one message, and at the ends; generous for the templates in use.
const TEMPLATE_TOKENS_PER_MESSAGE: usize = 64;
const TEMPLATE_TOKENS: usize = 512;

/// Where so many nodes have a question each, one of them will answer soon; nobody looks for another.
const NODES_LOOKED_AT: usize = 64;

/// Questions asked and to be asked.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// Waiting jobs that nobody could be asked about so far.
    due: BTreeSet<JobId>,
    /// Jobs that nobody was looked for yet.
    fresh: Vec<JobId>,
    /// One question at a time for each node: no node is flooded with prompts.
    asked: BTreeMap<SocketId, Question>,
    last: u32,
    /// Whether somebody came, left or answered since the last look.
    is_stale: bool,
}

/// What a node was asked.
#[derive(Debug, Clone, Copy)]
struct Question {
    check: u32,
    job: JobId,
    /// Tells the job from a later one that a client gave the same id.
    ticket: Ticket,
    model: ModelIndex,
}

/// What to do about a waiting job.
enum Verdict {
    /// Nothing, ever.
    Needless,
    /// Nobody can be asked now.
    Later,
    /// Ask this node.
    Ask(SocketId, ModelIndex, Box<JobRequest>),
}

impl Scheduler {
    /// A job came.
    pub(crate) fn check_later(&mut self, id: JobId) {
        self.checks.fresh.push(id);
    }

    /// A node came: it can be asked.
    pub(crate) fn checks_node_joined(&mut self) {
        self.checks.is_stale = true;
    }

    /// A node left without an answer: another is asked.
    pub(crate) fn checks_node_left(&mut self, socket: SocketId) {
        if let Some(question) = self.checks.asked.remove(&socket) {
            self.check_later(question.job);
        }
    }

    /// Asks about the jobs that still wait.
    pub(crate) fn ask_about_prompts(&mut self) {
        let fresh = std::mem::take(&mut self.checks.fresh);
        let again = if std::mem::take(&mut self.checks.is_stale) {
            std::mem::take(&mut self.checks.due)
        } else {
            BTreeSet::new()
        };
        for id in again.into_iter().chain(fresh) {
            match self.consider(id) {
                Verdict::Needless => {}
                Verdict::Later => {
                    self.checks.due.insert(id);
                }
                Verdict::Ask(socket, model, request) => {
                    self.checks.last = self.checks.last.wrapping_add(1);
                    let check = self.checks.last;
                    let Some(ticket) = self.jobs.get(&id).map(|job| job.ticket) else {
                        continue;
                    };
                    let question = Question {
                        check,
                        job: id,
                        ticket,
                        model,
                    };
                    self.checks.asked.insert(socket, question);
                    let model = self.models[model].entry.id.clone();
                    let request = *request;
                    self.tell_node(
                        socket,
                        RelayToNode::CheckPrompt {
                            check,
                            model,
                            request,
                        },
                    );
                }
            }
        }
    }

    fn consider(&self, id: JobId) -> Verdict {
        let Some(job) = self
            .jobs
            .get(&id)
            .filter(|job| job.alias.is_none() && !job.is_held)
        else {
            return Verdict::Needless; // It ended, or its node says whether it fits.
        };
        // A token is at least one byte of the rendered prompt, but for those of pictures.
        let tokens_max = job.bytes
            + TEMPLATE_TOKENS
            + job.request.turns() * TEMPLATE_TOKENS_PER_MESSAGE
            + job.request.images() * IMAGE_TOKENS_MAX;
        let fits_surely = |&model: &ModelIndex| {
            let room = self.models[model].context_min(job.need);
            room.and_then(|room| usize::try_from(room).ok())
                .is_some_and(|room| room > tokens_max)
        };
        if job.choices.iter().any(fits_surely) {
            return Verdict::Needless;
        }
        let idle = job.choices.iter().find_map(|&model| {
            let mut nodes = self.models[model].nodes_for(job.need).take(NODES_LOOKED_AT);
            Some((
                nodes.find(|socket| !self.checks.asked.contains_key(socket))?,
                model,
            ))
        });
        idle.map_or(Verdict::Later, |(socket, model)| {
            Verdict::Ask(socket, model, Box::new(job.request.clone()))
        })
    }

    /// A node answered.
    pub(crate) fn prompt_checked(
        &mut self,
        socket: SocketId,
        check: u32,
        failure: Option<Failure>,
    ) {
        let asked = self.checks.asked.get(&socket).copied();
        let Some(question) = asked.filter(|question| question.check == check) else {
            self.counters.stale_messages += 1;
            return;
        };
        self.checks.asked.remove(&socket);
        self.checks.is_stale = true;
        let id = question.job;
        let waits = self
            .jobs
            .get(&id)
            .is_some_and(|job| job.alias.is_none() && job.ticket == question.ticket);
        let Some(failure) = failure.filter(|failure| waits && is_final(failure.code)) else {
            return;
        };
        if failure.code == ErrorCode::ContextLengthExceeded && self.rule_out(id, question.model) {
            self.check_later(id); // Another model of its tier may have more room.
            return;
        }
        self.fail(id, failure.bounded());
    }
}

/// Whether no other node would say otherwise. A node that is busy or broken says nothing about the request.
const fn is_final(code: ErrorCode) -> bool {
    match code {
        ErrorCode::InvalidRequest | ErrorCode::ContextLengthExceeded => true,
        ErrorCode::UnknownModel
        | ErrorCode::CapabilityMissing
        | ErrorCode::QueueFull
        | ErrorCode::MemoryFull
        | ErrorCode::TooLarge
        | ErrorCode::Unauthorized
        | ErrorCode::UnknownJob
        | ErrorCode::DuplicateJob
        | ErrorCode::ProtocolError
        | ErrorCode::NodeLost
        | ErrorCode::LeaseExpired
        | ErrorCode::EngineFailed
        | ErrorCode::Draining
        | ErrorCode::Cancelled
        | ErrorCode::ClientGone
        | ErrorCode::SlowReader
        | ErrorCode::Internal
        | ErrorCode::Unknown => false,
    }
}
