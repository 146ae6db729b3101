//! A job on this node, and what is kept of it after its end.

use protocol::{Alias, Answer, ChatRequest, JobId};

use crate::Millis;
use crate::buffer::ResendBuffer;

/// A job that holds a slot.
#[derive(Debug)]
pub(crate) struct Job {
    /// Its name on the connection; `None` once the relay is not to hear of it any more.
    pub(crate) alias: Option<Alias>,
    /// How far it is.
    pub(crate) phase: Phase,
    /// Where its stream stands.
    pub(crate) offset: u32,
    /// What its client may not have yet.
    pub(crate) buffer: ResendBuffer,
}

/// How far a job is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// The engine still stops a job of an earlier connection in its place.
    Waiting(Box<Pending>),
    /// The engine reads the prompt.
    Started,
    /// The engine answers.
    Accepted,
    /// The engine was told to stop.
    Stopping,
}

/// What is needed to start a job later.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) job: JobId,
    pub(crate) model: String,
    pub(crate) request: Box<ChatRequest>,
    pub(crate) answer: Option<Box<Answer>>,
}

/// A whole answer whose end the client has not acknowledged.
#[derive(Debug)]
pub(crate) struct Finished {
    /// What it may not have yet.
    pub(crate) buffer: ResendBuffer,
    /// Kept no longer than this.
    pub(crate) until: Millis,
}

impl Job {
    /// Whether it has a place in the engine.
    pub(crate) const fn is_in_engine(&self) -> bool {
        match self.phase {
            Phase::Waiting(_) => false,
            Phase::Started | Phase::Accepted | Phase::Stopping => true,
        }
    }
}
