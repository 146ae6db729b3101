//! A job on this node, from its assignment until its client has its end.

use protocol::{Alias, Answer, FinishReason, JobId, JobRequest, NodeToRelay, PrefixHash, Usage};

use crate::Millis;
use crate::stream::Stream;

/// An attempt at a job.
#[derive(Debug)]
pub(crate) struct Job {
    /// Which job.
    pub(crate) id: JobId,
    /// Which attempt at it.
    pub(crate) attempt: u32,
    /// What proves to a relay that has forgotten it that it was ours.
    pub(crate) ticket: String,
    /// Its name on the connection; `None` while no connection knows it, and once the relay is not to hear of it any more.
    pub(crate) alias: Option<Alias>,
    /// How far it is.
    pub(crate) phase: Phase,
    /// Its answer.
    pub(crate) stream: Stream,
    /// Unacknowledged bytes at which the engine pauses.
    pub(crate) window_bytes: u32,
    /// Whether the engine was told to pause.
    pub(crate) is_paused: bool,
    /// Nobody wanted it by then: it is dropped.
    pub(crate) drop_at: Option<Millis>,
}

/// How far a job is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// The engine still stops another job in its place.
    Waiting(Box<Pending>),
    /// The engine reads the prompt.
    Started,
    /// The engine answers.
    Accepted {
        prompt_tokens: u32,
        context_tokens: u32,
    },
    /// The engine was told to stop.
    Stopping,
    /// The engine is done; kept until the client has the end.
    Ended(Ended),
}

/// What is needed to start a job later.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) model: String,
    pub(crate) request: Box<JobRequest>,
    pub(crate) answer: Option<Box<Answer>>,
    pub(crate) prefix: Option<PrefixHash>,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) prompt_tokens: u32,
    pub(crate) context_tokens: u32,
    pub(crate) finish_reason: FinishReason,
    pub(crate) usage: Usage,
    /// When it ended, or when a connection last took it over.
    pub(crate) at: Millis,
}

impl Job {
    /// Whether it has a place in the engine.
    pub(crate) const fn is_in_engine(&self) -> bool {
        match self.phase {
            Phase::Waiting(_) | Phase::Ended(_) => false,
            Phase::Started | Phase::Accepted { .. } | Phase::Stopping => true,
        }
    }

    /// Whether the relay counts it as one of our slots.
    pub(crate) const fn holds_slot(&self) -> bool {
        match self.phase {
            Phase::Ended(_) => false,
            Phase::Stopping => self.alias.is_some(),
            Phase::Waiting(_) | Phase::Started | Phase::Accepted { .. } => true,
        }
    }

    /// Whether it may go on under another name.
    pub(crate) const fn is_adoptable(&self) -> bool {
        match self.phase {
            Phase::Stopping => false,
            Phase::Waiting(_) | Phase::Started | Phase::Accepted { .. } | Phase::Ended(_) => true,
        }
    }

    /// The prompt's length and the context's, once the engine has read it.
    pub(crate) const fn accepted(&self) -> Option<(u32, u32)> {
        match self.phase {
            Phase::Accepted {
                prompt_tokens,
                context_tokens,
            }
            | Phase::Ended(Ended {
                prompt_tokens,
                context_tokens,
                ..
            }) => Some((prompt_tokens, context_tokens)),
            Phase::Waiting(_) | Phase::Started | Phase::Stopping => None,
        }
    }

    /// How it ended, if it did.
    pub(crate) const fn ended(&self) -> Option<Ended> {
        match self.phase {
            Phase::Ended(ended) => Some(ended),
            Phase::Waiting(_) | Phase::Started | Phase::Accepted { .. } | Phase::Stopping => None,
        }
    }

    /// Tells a relay that has forgotten it.
    pub(crate) fn announcement(&self) -> NodeToRelay {
        let (from, hash) = self.stream.released();
        NodeToRelay::Announce {
            job: self.id,
            attempt: self.attempt,
            ticket: self.ticket.clone(),
            from,
            hash,
            offset: self.stream.end().offset,
            ended: self.ended().is_some(),
        }
    }
}
