//! Control frames between a client (chat page, the Worker's HTTP front, a terminal) and the relay.

use serde::{Deserialize, Serialize};

use crate::answer::{Answer, AnswerHash};
use crate::chat::{FinishReason, Usage};
use crate::failure::Failure;
use crate::id::{Alias, JobId};
use crate::node::NodeClass;
use crate::request::JobRequest;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientToRelay {
    /// First frame of a client that the upgrade request did not authenticate.
    Hello {
        /// An API key, `hg-…`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// Ask for an answer.
    Submit {
        /// Chosen by the client at random; sent again, it is the same job.
        job: JobId,
        /// A model id, or a tier id for any model of that tier.
        model: String,
        /// What to answer.
        request: JobRequest,
    },
    /// Take up a job of an earlier connection. Carries the whole request and the answer so far, since a relay that
    /// restarted has neither.
    Resume {
        /// Which job.
        job: JobId,
        /// From [`RelayToClient::Submitted`].
        ticket: String,
        /// The highest attempt that this client heard of; 0 before the first.
        attempt: u32,
        /// Answer bytes received in order.
        offset: u32,
        /// Tokens that they stand for.
        tokens: u32,
        /// Hash of those bytes.
        hash: AnswerHash,
        /// As submitted.
        model: String,
        /// As submitted.
        request: JobRequest,
        /// The answer so far; absent where nothing has come, or where it is too long to be carried.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<Answer>,
    },
    /// All answer bytes before `offset` have arrived; cumulative.
    Acknowledge {
        /// Which job.
        job: JobId,
        /// Bytes received in order.
        offset: u32,
        /// Whether `completed` has arrived too: nothing of the job needs to be kept any more.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        whole: bool,
    },
    /// Stop the job.
    Cancel {
        /// Which job.
        job: JobId,
    },
    /// A heartbeat; must be exactly [`crate::PING`].
    Ping,
    /// A message that this version does not know; counted.
    #[serde(other)]
    Unknown,
}

/// What the relay says to a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RelayToClient {
    /// The client is known; it may submit.
    Welcome {
        /// Who the relay takes it for.
        account: String,
    },
    /// The job is taken in. The first word about every submitted and every resumed job.
    Submitted {
        /// Which job.
        job: JobId,
        /// What [`ClientToRelay::Resume`] must show; opaque.
        ticket: String,
    },
    /// The job waits. Sent again whenever its place changes.
    Queued {
        /// Which job.
        job: JobId,
        /// The model it waits for.
        model: String,
        /// Place in that model's queue; 1 is next.
        position: u32,
        /// Nodes that offer the model now, busy or not.
        nodes: u32,
        /// How long it may take until a node has it; absent while nothing is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait: Option<WaitRange>,
    },
    /// A node has it. Token frames with `alias` follow.
    Assigned {
        /// Which job.
        job: JobId,
        /// Counts from 1.
        attempt: u32,
        /// This attempt's name in token frames.
        alias: Alias,
        /// The model that answers.
        model: String,
        /// The node's public name.
        node: String,
        /// What kind of node it is.
        class: NodeClass,
        /// Where its token frames begin: what this client has by now.
        #[serde(default)]
        offset: u32,
    },
    /// The node has read the prompt and it fits; the answer follows.
    Started {
        /// Which job.
        job: JobId,
        /// The rendered prompt's length.
        prompt_tokens: u32,
        /// What the node has room for, prompt and answer together.
        context_tokens: u32,
    },
    /// The answer is whole.
    Completed {
        /// Which job.
        job: JobId,
        /// Bytes of the answer, all kinds.
        offset: u32,
        /// Why it ended.
        finish_reason: FinishReason,
        /// Counted by the node, checked by the relay.
        usage: Usage,
        /// Measured by the relay.
        speed: Speed,
    },
    /// The job broke or was refused; nothing more comes.
    Failed {
        /// Which job.
        job: JobId,
        /// Why.
        failure: Failure,
    },
    /// A frame that was not understood, where no job can be named; the connection goes on.
    Refused {
        /// Why.
        failure: Failure,
    },
    /// Answer to [`ClientToRelay::Ping`].
    Pong,
    /// A message that this version does not know; counted.
    #[serde(other)]
    Unknown,
}

/// A time range, in milliseconds from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitRange {
    /// Hardly sooner.
    pub ms_min: u64,
    /// Hardly later.
    pub ms_max: u64,
}

/// How fast an answer came, by the relay's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// From submission to the first assignment.
    pub queued_ms: u64,
    /// From the last assignment to the first answer byte.
    pub first_token_ms: u64,
    /// From the first to the last answer token of the last attempt; 0 where there was only one.
    pub decode_tokens_per_second: f64,
}
