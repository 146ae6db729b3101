//! A job, the attempts at it, and what is kept of it after a good end.

use protocol::{Alias, ChatRequest, JobId, RelayToClient, Speed};

use crate::measure::Meter;
use crate::models::ModelIndex;
use crate::placement::Need;
use crate::queue::Ticket;
use crate::slots::Slot;
use crate::{Millis, SocketId};

/// An unfinished job: it waits, or one attempt at it runs.
#[derive(Debug)]
pub(crate) struct Job {
    /// The client's socket; `None` in the grace period.
    pub(crate) owner: Option<SocketId>,
    /// The models that may answer it, the preferred one first; never empty. While it waits, it stands in the line of
    /// each.
    pub(crate) choices: Vec<ModelIndex>,
    /// What a node must be able to do.
    pub(crate) need: Need,
    /// What to answer; kept, so that another node can try.
    pub(crate) request: ChatRequest,
    /// What it takes of the content budget.
    pub(crate) bytes: usize,
    /// Its place in the order of submission.
    pub(crate) ticket: Ticket,
    /// When it came.
    pub(crate) submitted_at: Millis,
    /// When a node first got it.
    pub(crate) first_assigned_at: Option<Millis>,
    /// Attempts so far.
    pub(crate) attempts: u32,
    /// Those of them that a node refused before it began, so that nothing is known against the job.
    pub(crate) refusals: u32,
    /// The attempt under way; `None` while it waits.
    pub(crate) alias: Option<Alias>,
    /// Answer bytes passed on.
    pub(crate) delivered: u32,
    /// Answer bytes that the client says it has.
    pub(crate) acknowledged: u32,
    /// What the client was told last of its place.
    pub(crate) told: Option<Place>,
    /// The node that lost it last: another is preferred.
    pub(crate) avoid: Option<SocketId>,
}

/// Where a waiting job stands in the best of its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Whose line it is.
    pub(crate) model: ModelIndex,
    /// Counts from 1.
    pub(crate) position: u32,
    /// Whether any node offers that model.
    pub(crate) has_nodes: bool,
}

/// One node's try at a job. It holds its slot until the node says that it ended, or the node is gone.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Whose; `None` once the node was told to stop.
    pub(crate) job: Option<JobId>,
    /// Who tries.
    pub(crate) node: SocketId,
    /// With what.
    pub(crate) model: ModelIndex,
    /// The slot it holds.
    pub(crate) slot: Slot,
    /// Counts from 1 over the job.
    pub(crate) number: u32,
    /// When it began.
    pub(crate) assigned_at: Millis,
    /// The end of its lease, or of its time to stop.
    pub(crate) deadline: Millis,
    /// The most prompt tokens that the node said it has read.
    pub(crate) prefilled_tokens: u32,
    /// What the node said of the prompt, once it did.
    pub(crate) accepted: Option<Accepted>,
    /// Where its stream stands.
    pub(crate) offset: u32,
    /// When the first answer byte came.
    pub(crate) first_byte_at: Option<Millis>,
    /// Its tokens.
    pub(crate) meter: Meter,
}

/// What a node said of a prompt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    /// Its length.
    pub(crate) prompt_tokens: u32,
    /// The room for prompt and answer.
    pub(crate) context_tokens: u32,
}

/// A whole answer whose bytes its client has not acknowledged yet. No content: the node keeps that.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The client's socket.
    pub(crate) owner: SocketId,
    /// The attempt's name on the node.
    pub(crate) alias: Alias,
    /// Who holds the bytes; `None` once it left.
    pub(crate) node: Option<SocketId>,
    /// Bytes of the answer.
    pub(crate) offset: u32,
    /// Bytes that the client has.
    pub(crate) acknowledged: u32,
    /// How it ended, for a client that submits it again.
    pub(crate) end: RelayToClient,
}

impl Attempt {
    /// How fast it went.
    pub(crate) fn speed(&self, job: &Job) -> Speed {
        let first_assigned_at = job.first_assigned_at.unwrap_or(self.assigned_at);
        Speed {
            queued_ms: first_assigned_at.saturating_sub(job.submitted_at),
            first_token_ms: self
                .first_byte_at
                .map_or(0, |at| at.saturating_sub(self.assigned_at)),
            decode_tokens_per_second: self.meter.rate().unwrap_or(0.0),
        }
    }
}
