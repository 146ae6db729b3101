//! What a node's shell has to do.

use protocol::{Answer, Failure, JobId, JobRequest, PrefixHash};

use crate::JobKey;

/// One action.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Dial the relay now. Answer with `Connected` or `Closed`.
    Connect,
    /// Send this text.
    Send(String),
    /// Send this binary message.
    SendBinary(Vec<u8>),
    /// Run this job. The engine has a free place for it.
    Start {
        /// Names it in engine events.
        key: JobKey,
        /// Names it in logs.
        job: JobId,
        /// Which attempt at it; for logs.
        attempt: u32,
        /// Which of the offered models.
        model: String,
        /// What to answer.
        request: Box<JobRequest>,
        /// What the client has of the answer already: go on from there, and tell only what lies beyond.
        answer: Option<Box<Answer>>,
        /// What the relay calls this conversation once it is read, for [`crate::EngineEvent::Cached`].
        prefix: Option<PrefixHash>,
    },
    /// Skip this job in decode steps until [`Output::Unpause`]; it keeps its place. A job that is not there (any more) is
    /// no fault, nor is one that is paused already.
    Pause {
        /// Which job.
        key: JobKey,
    },
    /// Go on with this job.
    Unpause {
        /// Which job.
        key: JobKey,
    },
    /// Read this prompt and answer with `Checked`; no place in the engine is needed.
    Check {
        /// Names the question.
        check: u32,
        /// Which of the offered models.
        model: String,
        /// What is to be answered later.
        request: Box<JobRequest>,
    },
    /// Stop this job, paused or not, before the next decode step. The engine answers with `Cancelled`, or with the end it had reached.
    Stop {
        /// Which job.
        key: JobKey,
    },
    /// Close the socket and say nothing more of it.
    CloseSocket {
        /// The close code.
        code: u16,
    },
    /// The relay knows this node. For logs.
    Welcomed {
        /// The node's id on the pool.
        node: String,
    },
    /// The relay refused a frame or the node. For logs.
    Refused(Failure),
    /// The session is over; nothing more comes.
    Exit(End),
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// Everything was finished, as the operator wished.
    #[error("drained")]
    Drained,
    /// The relay will not have this node as it is: a wrong key, or versions that do not fit. Dialling again would not help.
    #[error(
        "the relay refused this node (close code {code}); mend the key, the model's name or the version, and start again"
    )]
    Refused {
        /// The close code.
        code: u16,
    },
}
