//! A job, the attempts at it, and what is kept of it after a good end.

use protocol::{Alias, AnswerHash, JobId, JobRequest, RelayToClient, Speed, Transcript, WaitRange};

use crate::affinity::Prefix;
use crate::measure::Meter;
use crate::models::ModelIndex;
use crate::placement::Need;
use crate::queue::{Account, Bill, Ticket};
use crate::slots::Slot;
use crate::{Millis, SocketId};

/// An unfinished job: it waits, or one attempt at it runs.
#[derive(Debug)]
pub(crate) struct Job {
    /// The client's socket; `None` in the grace period.
    pub(crate) owner: Option<SocketId>,
    /// Who pays, also while the client is away.
    pub(crate) account: Account,
    /// What it is expected to cost.
    pub(crate) bill: Bill,
    /// Whose line it was served from, and paid in.
    pub(crate) charged: Option<ModelIndex>,
    /// What a node said of the prompt's length.
    pub(crate) prompt_tokens: Option<u32>,
    /// The models that may answer it, the preferred one first; never empty. While it waits, it stands in the line of
    /// each.
    pub(crate) choices: Vec<ModelIndex>,
    /// What a node must be able to do.
    pub(crate) need: Need,
    /// What to answer; kept, so that another node can try.
    pub(crate) request: JobRequest,
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
    /// Those of them that ended before they began, by nobody's fault, so that nothing is known against the job.
    pub(crate) refusals: u32,
    /// Attempts in a row that were lost without adding to the answer.
    pub(crate) setbacks: u32,
    /// The attempt under way; `None` while it waits.
    pub(crate) alias: Option<Alias>,
    /// Whether it waits for a node that may still have its answer, and so stands in no line.
    pub(crate) is_held: bool,
    /// The answer so far, as it was passed on: what a new attempt goes on from, and what a client that comes back gets.
    pub(crate) transcript: Transcript,
    /// What the transcript takes of the content budget.
    pub(crate) transcript_bytes: usize,
    /// The hash of an answer of which only the client has the text: too long to be carried.
    pub(crate) claimed: Option<AnswerHash>,
    /// Whose tokens the answer is made of.
    pub(crate) vocabulary: Vocabulary,
    /// Bytes and tokens that a client has which came back and was not told of an attempt yet: the rest is owed to it.
    pub(crate) has: Option<(u32, u32)>,
    /// Answer bytes that the client says it has.
    pub(crate) acknowledged: u32,
    /// Since when the node pauses, because the client is a whole window behind.
    pub(crate) paused_at: Option<Millis>,
    /// What its client must read by when its slow reader's time is over.
    pub(crate) slow: Option<Slow>,
    /// Its conversation's beginnings, the longest first.
    pub(crate) prefixes: Box<[Prefix]>,
    /// What the client was told last of its place.
    pub(crate) told: Option<Place>,
    /// The node that lost it last: another is preferred.
    pub(crate) avoid: Option<SocketId>,
}

/// A client that was a window behind, and has not read on for good since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slow {
    /// Once it has acknowledged this much, it is not slow any more.
    pub(crate) target: u32,
    /// Whether its time was over once while it was away.
    pub(crate) was_away: bool,
}

/// Whose tokens an answer is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Vocabulary {
    /// There is none yet.
    Unspoken,
    /// One model's: a node with this model can go on from the tokens.
    Model(String),
    /// Several models took part, or nobody knows: only the text counts.
    Mixed,
}

impl Vocabulary {
    /// What a continuation may be told.
    pub(crate) fn model(&self) -> Option<&str> {
        match self {
            Self::Model(model) => Some(model),
            Self::Unspoken | Self::Mixed => None,
        }
    }

    /// A model adds to the answer.
    pub(crate) fn speak(&mut self, model: &str) {
        match self {
            Self::Unspoken => *self = Self::Model(model.to_owned()),
            Self::Model(known) if known == model => {}
            Self::Model(_) | Self::Mixed => *self = Self::Mixed,
        }
    }
}

/// Where a waiting job stands in the best of its lines.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    /// Whose line it is.
    pub(crate) model: ModelIndex,
    /// Counts from 1.
    pub(crate) position: u32,
    /// Whether any node offers that model.
    pub(crate) has_nodes: bool,
    /// How long it will be, where that is known.
    pub(crate) wait: Option<WaitRange>,
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
    /// The slot it holds; an answer that was whole when its node came back needs none.
    pub(crate) slot: Option<Slot>,
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
    /// Where its stream began.
    pub(crate) start: u32,
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

/// A job that is over, and whose end its client has not acknowledged yet.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The client's socket; `None` once it is gone.
    pub(crate) owner: Option<SocketId>,
    /// Whose job it was.
    pub(crate) account: Account,
    /// The last attempt, its name and who answered; `None` where no attempt was under way.
    pub(crate) by: Option<AnsweredBy>,
    /// The answer.
    pub(crate) transcript: Transcript,
    /// What the transcript takes of the content budget.
    pub(crate) transcript_bytes: usize,
    /// Bytes that the client has.
    pub(crate) acknowledged: u32,
    /// How it ended.
    pub(crate) end: RelayToClient,
    /// Kept no longer than this.
    pub(crate) until: Millis,
}

/// Who answered a job that is over.
#[derive(Debug)]
pub(crate) struct AnsweredBy {
    /// The attempt's name.
    pub(crate) alias: Alias,
    /// Who keeps the bytes too; `None` once it left.
    pub(crate) node: Option<SocketId>,
    /// What the client heard of it.
    pub(crate) assigned: RelayToClient,
}

/// What a node that came back still has of a job that this relay does not know: it waits for the client.
#[derive(Debug)]
pub(crate) struct Announced {
    /// Who has it.
    pub(crate) node: SocketId,
    /// Which attempt.
    pub(crate) attempt: u32,
    /// Whose job it is.
    pub(crate) account: String,
    /// What answers.
    pub(crate) model: ModelIndex,
    /// The first byte that the node still has.
    pub(crate) from: u32,
    /// Bytes of the answer.
    pub(crate) offset: u32,
    /// The slot it holds; `None` for a whole answer.
    pub(crate) slot: Option<Slot>,
}

impl Job {
    /// How far the client is behind the present attempt. What an earlier attempt left unread is not this node's to wait
    /// for.
    pub(crate) fn behind(&self, start: u32) -> u32 {
        self.transcript.offset() - self.acknowledged.max(start).min(self.transcript.offset())
    }
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
