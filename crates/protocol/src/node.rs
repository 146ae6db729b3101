//! Control frames between a node and the relay.

use serde::{Deserialize, Serialize};

use crate::answer::{Answer, AnswerHash};
use crate::chat::{FinishReason, Usage};
use crate::failure::Failure;
use crate::id::{Alias, JobId, PrefixHash};
use crate::limits::{
    ANNOUNCES_MAX, ANSWER_BYTES_MAX, CACHED_PREFIXES_MAX, NAME_BYTES_MAX, NODE_MODELS_MAX,
    NODE_SLOTS_MAX, TICKET_BYTES_MAX,
};
use crate::request::JobRequest;

/// What kind of node it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeClass {
    /// A GPU container with llama.cpp.
    Rig,
    /// A GPU container with an image pipeline.
    Render,
    /// A browser tab.
    Browser,
    /// A class that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What a node's runtime can do for a model.
#[expect(
    clippy::struct_excessive_bools,
    reason = "abilities come in any combination"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Answers bound by a grammar: `json_object` and `json_schema`.
    #[serde(default)]
    pub grammar: bool,
    /// Log-probabilities of tokens.
    #[serde(default)]
    pub logprobs: bool,
    /// `presence_penalty` and `frequency_penalty`.
    #[serde(default)]
    pub penalties: bool,
    /// `logit_bias`.
    #[serde(default)]
    pub logit_bias: bool,
    /// `seed`: draws are a function of seed and position, so that a continued answer is the same answer.
    #[serde(default)]
    pub seed: bool,
    /// Can go on with an answer that another node began.
    #[serde(default)]
    pub continuation: bool,
    /// Pictures in messages.
    #[serde(default)]
    pub vision: bool,
    /// Calls of tools, told as such.
    #[serde(default)]
    pub tools: bool,
    /// Conversations, [`crate::JobRequest::Chat`]. Nodes that never said otherwise have it.
    #[serde(default = "yes")]
    pub chat: bool,
    /// Vectors, [`crate::JobRequest::Embed`].
    #[serde(default)]
    pub embeddings: bool,
}

/// A model that a node has loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelOffer {
    /// Catalog id.
    pub model: String,
    /// What executes it: `llama.cpp`, `webgpu`, …
    pub runtime: String,
    /// Tokens that one job may use, prompt and answer together.
    pub context_tokens: u32,
    /// What it can do.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// What its self-test measured when it started: for operators and pages. Placement goes by what the relay measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<MeasuredSpeed>,
}

impl Default for Capabilities {
    /// Conversations, and nothing beyond them.
    fn default() -> Self {
        Self {
            grammar: false,
            logprobs: false,
            penalties: false,
            logit_bias: false,
            seed: false,
            continuation: false,
            vision: false,
            tools: false,
            chat: true,
            embeddings: false,
        }
    }
}

/// What a node's self-test measured of a model, with one job alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasuredSpeed {
    /// Prompt tokens read in a second.
    pub prefill_tokens_per_second: u32,
    /// Answer tokens written in a second.
    pub decode_tokens_per_second: u32,
}

/// What a node runs on: for operators and pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The GPU's name, or the processor's where there is none.
    pub device: String,
    /// Memory of the device, in bytes.
    pub memory_bytes: u64,
    /// What executes models, with its version and that of the driver.
    pub runtime: String,
}

/// What a node says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum NodeToRelay {
    /// First frame, always.
    Hello {
        /// A node key, `hgn-…`, where the upgrade request carried none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// The node's public name.
        name: String,
        /// What kind of node it is.
        class: NodeClass,
        /// Program and version, for operators.
        software: String,
        /// Jobs at once, over all its models.
        slots: u32,
        /// What it can run.
        models: Vec<ModelOffer>,
        /// How many `announce` follow the welcome. It gets no work before the last of them.
        #[serde(default, skip_serializing_if = "is_zero")]
        announces: u32,
        /// What it runs on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        machine: Option<Machine>,
    },
    /// An answer that an earlier connection left unacknowledged, running or whole. Said right after the welcome.
    Announce {
        /// Which job.
        job: JobId,
        /// Which attempt at it.
        attempt: u32,
        /// From [`RelayToNode::Assign`].
        ticket: String,
        /// The offset of the first byte that the node still has.
        from: u32,
        /// Hash of the bytes before `from`.
        hash: AnswerHash,
        /// Bytes of the answer by now.
        offset: u32,
        /// Whether the engine has ended with it: it holds no slot.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        ended: bool,
    },
    /// The prompt is read and fits.
    Accepted {
        /// Which attempt.
        alias: Alias,
        /// The rendered prompt's length.
        prompt_tokens: u32,
        /// Tokens that this job may use, prompt and answer together.
        context_tokens: u32,
    },
    /// Still reading the prompt; renews the lease.
    Progress {
        /// Which attempt.
        alias: Alias,
        /// Prompt tokens evaluated so far.
        prefilled_tokens: u32,
    },
    /// The answer is whole; its slot is free.
    Completed {
        /// Which attempt.
        alias: Alias,
        /// Bytes of the answer, all kinds.
        offset: u32,
        /// Why it ended.
        finish_reason: FinishReason,
        /// What it cost.
        usage: Usage,
    },
    /// The attempt broke or was refused; its slot is free.
    Failed {
        /// Which attempt.
        alias: Alias,
        /// Why.
        failure: Failure,
    },
    /// The attempt was stopped as asked; its slot is free.
    Cancelled {
        /// Which attempt.
        alias: Alias,
        /// What it cost until then.
        usage: Usage,
    },
    /// Whether a waiting prompt could be answered here, as [`RelayToNode::CheckPrompt`] asked.
    PromptChecked {
        /// Which question.
        check: u32,
        /// Why not; absent where it could.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Failure>,
    },
    /// The conversations that it could go on with without reading them again, the last used first. Replaces what it said
    /// before; a node that never says this is taken to keep what it read last.
    Cached {
        /// From [`RelayToNode::Assign`].
        prefixes: Vec<PrefixHash>,
    },
    /// Takes no new work; running jobs go on.
    Draining,
    /// A heartbeat; must be exactly [`crate::PING`].
    Ping,
    /// A message that this version does not know; counted.
    #[serde(other)]
    Unknown,
}

/// What the relay says to a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RelayToNode {
    /// The node is registered.
    Welcome {
        /// Its id on this pool.
        node: String,
        /// Send [`crate::PING`] this often when nothing else is sent.
        heartbeat_ms: u64,
    },
    /// Run this job.
    Assign {
        /// Which job; the same over all attempts.
        job: JobId,
        /// Counts from 1.
        attempt: u32,
        /// This attempt's name on this connection.
        alias: Alias,
        /// Which of the offered models.
        model: String,
        /// Without any progress for this long, the attempt is lost.
        lease_ms: u64,
        /// Pause once this many answer bytes are unacknowledged, and go on when they no longer are.
        window_bytes: u32,
        /// What [`NodeToRelay::Announce`] must show; opaque.
        ticket: String,
        /// What to answer.
        request: JobRequest,
        /// What the client has of the answer already: go on from there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<Answer>,
        /// What [`NodeToRelay::Cached`] calls this conversation once it is read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<PrefixHash>,
    },
    /// Go on with an announced answer under a new name: send `accepted` (where the prompt was), what lies beyond
    /// `offset` and `tokens`, and the end, if it has come.
    Adopt {
        /// Which job.
        job: JobId,
        /// Which attempt at it.
        attempt: u32,
        /// The attempt's name on this connection.
        alias: Alias,
        /// As in `assign`.
        lease_ms: u64,
        /// As in `assign`.
        window_bytes: u32,
        /// Answer bytes that the client has; everything before is acknowledged.
        offset: u32,
        /// Tokens that they stand for.
        tokens: u32,
        /// Hash of those bytes: where the node's differ it says `failed` with `unknown_job`.
        hash: AnswerHash,
    },
    /// Stop an announced attempt and forget it: nobody wants it, or its ticket is not good.
    Fence {
        /// Which job.
        job: JobId,
        /// Which attempt at it.
        attempt: u32,
        /// Why; the same code whatever was wrong with the ticket.
        failure: Failure,
    },
    /// Gather the deltas of this long into one frame: the relay is loaded. 0: one frame per decode step again.
    Merge {
        /// At most [`crate::limits::MERGE_MS_MAX`].
        ms: u64,
    },
    /// Read this prompt and say whether it fits; needs no slot. Asked while a job waits, so that an impossible request
    /// is refused at once and not after its wait.
    CheckPrompt {
        /// Names the question in its answer. A node is asked one at a time.
        check: u32,
        /// Which of the offered models.
        model: String,
        /// What is to be answered later.
        request: JobRequest,
    },
    /// Stop within one decode step and say `cancelled`.
    Cancel {
        /// Which attempt.
        alias: Alias,
    },
    /// The client has all answer bytes before `offset`; cumulative.
    Acknowledge {
        /// Which attempt.
        alias: Alias,
        /// Bytes that the client has.
        offset: u32,
        /// Whether it has the end too: everything is released.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        whole: bool,
    },
    /// A frame that was not understood; the connection goes on.
    Refused {
        /// Why.
        failure: Failure,
    },
    /// Answer to [`NodeToRelay::Ping`].
    Pong,
    /// A message that this version does not know; counted.
    #[serde(other)]
    Unknown,
}

impl NodeToRelay {
    /// Checks the lengths of a `hello`, an `announce` and a `cached`; other messages have none to check.
    pub fn validate(&self) -> Result<(), &'static str> {
        match self {
            Self::Hello {
                name,
                software,
                slots,
                models,
                announces,
                machine,
                ..
            } => {
                let name_fits = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES_MAX;
                if !name_fits(name) || !name_fits(software) {
                    return Err("name and software have 1 to 96 bytes");
                }
                if *slots == 0 || *slots > NODE_SLOTS_MAX {
                    return Err("slots must be 1 to 256");
                }
                if models.is_empty() || models.len() > NODE_MODELS_MAX {
                    return Err("a node offers 1 to 64 models");
                }
                if models.iter().any(|m| {
                    !name_fits(&m.model) || !name_fits(&m.runtime) || m.context_tokens == 0
                }) {
                    return Err("each model needs an id, a runtime and a context");
                }
                if machine.as_ref().is_some_and(|machine| {
                    !name_fits(&machine.device) || !name_fits(&machine.runtime)
                }) {
                    return Err("a machine's device and runtime have 1 to 96 bytes");
                }
                if *announces > ANNOUNCES_MAX {
                    return Err("a node announces at most 1024 answers");
                }
                Ok(())
            }
            Self::Announce {
                ticket,
                from,
                offset,
                ..
            } => {
                if ticket.len() > TICKET_BYTES_MAX {
                    return Err("a ticket has at most 1024 bytes");
                }
                if from > offset || *offset > ANSWER_BYTES_MAX {
                    return Err(
                        "an announced answer begins before it ends, and has at most 16 MiB",
                    );
                }
                Ok(())
            }
            Self::Cached { prefixes } if prefixes.len() > CACHED_PREFIXES_MAX => {
                Err("a node names at most 512 cached prefixes")
            }
            Self::Cached { .. }
            | Self::Accepted { .. }
            | Self::Progress { .. }
            | Self::Completed { .. }
            | Self::Failed { .. }
            | Self::Cancelled { .. }
            | Self::PromptChecked { .. }
            | Self::Draining
            | Self::Ping
            | Self::Unknown => Ok(()),
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

const fn yes() -> bool {
    true
}
