//! What happens to a node.

use protocol::{DeltaKind, Failure, FinishReason, PrefixHash, Usage};

/// A job's name between the session and the engine. Never used twice, so that an event of a job that is gone names
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey(pub u64);

/// One event. Time comes beside it, in [`crate::NodeSession::handle_input`].
#[derive(Debug)]
pub enum Input<'a> {
    /// The socket that [`crate::Output::Connect`] asked for is open.
    Connected,
    /// A text message came.
    Text(&'a str),
    /// A binary message came.
    Binary(&'a [u8]),
    /// The socket ended, or could not be opened. Not said after [`crate::Output::CloseSocket`].
    Closed {
        /// The close code, where there was one. An upgrade refused with 401 or 403 is told as
        /// [`protocol::CloseCode::Unauthorized`].
        code: Option<u16>,
    },
    /// The socket still works on what it was given: keep the rest. What gathers meanwhile is merged. A shell that never
    /// says so is given everything at once.
    Busy,
    /// The socket can take more.
    Writable,
    /// The engine says something.
    Engine(EngineEvent),
    /// The operator wants the node to finish what it has and end.
    DrainRequested,
    /// The operator waits no longer: what still runs is handed back, so that another node goes on with it at once.
    DrainTimeOver,
    /// Time passed.
    Tick,
}

/// What an engine says. After `Finished`, `Failed` or `Cancelled` the job's place in the engine is free.
#[derive(Debug, Clone, PartialEq)]
pub enum EngineEvent {
    /// The prompt is rendered and fits.
    Accepted {
        /// Which job.
        key: JobKey,
        /// The rendered prompt's length.
        prompt_tokens: u32,
        /// Tokens that this job may use, prompt and answer together.
        context_tokens: u32,
    },
    /// A piece of the prompt was evaluated.
    Progress {
        /// Which job.
        key: JobKey,
        /// Prompt tokens evaluated so far.
        prefilled_tokens: u32,
    },
    /// One decode step: what every job that advanced has to say, in order.
    Step(Vec<Advance>),
    /// The answer is whole.
    Finished {
        /// Which job.
        key: JobKey,
        /// Why it ended.
        finish_reason: FinishReason,
        /// What it cost.
        usage: Usage,
    },
    /// The job was refused or broke.
    Failed {
        /// Which job.
        key: JobKey,
        /// Why.
        failure: Failure,
    },
    /// A prompt was read, as [`crate::Output::Check`] asked.
    Checked {
        /// Which question.
        check: u32,
        /// Why it could not be answered here; `None` where it could.
        failure: Option<Failure>,
    },
    /// What is in the engine's cache has changed: the conversations that it could go on with, the last used first.
    Cached(Vec<PrefixHash>),
    /// The job was stopped as asked.
    Cancelled {
        /// Which job.
        key: JobKey,
        /// What it cost until then.
        usage: Usage,
    },
}

/// One job's advance in one decode step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// Which job.
    pub key: JobKey,
    /// What the bytes are.
    pub kind: DeltaKind,
    /// The tokens that the bytes stand for; every token of an answer is told exactly once.
    pub tokens: Vec<u32>,
    /// Text: whole characters. Log-probabilities: JSON.
    pub bytes: Vec<u8>,
}
