//! Control frames between a node and the relay.

use serde::{Deserialize, Serialize};

use crate::chat::{ChatRequest, FinishReason, Usage};
use crate::failure::Failure;
use crate::id::{Alias, JobId};
use crate::limits::{NAME_BYTES_MAX, NODE_MODELS_MAX, NODE_SLOTS_MAX};

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Answers bound by a grammar: `json_object` and `json_schema`.
    #[serde(default)]
    pub grammar: bool,
    /// Log-probabilities of tokens.
    #[serde(default)]
    pub logprobs: bool,
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
        /// What to answer.
        request: ChatRequest,
    },
    /// Read this prompt and say whether it fits; needs no slot. Asked while a job waits, so that an impossible request
    /// is refused at once and not after its wait.
    CheckPrompt {
        /// Names the question in its answer. A node is asked one at a time.
        check: u32,
        /// Which of the offered models.
        model: String,
        /// What is to be answered later.
        request: ChatRequest,
    },
    /// Stop within one decode step and say `cancelled`.
    Cancel {
        /// Which attempt.
        alias: Alias,
    },
    /// The client has all answer bytes before `offset`; cumulative. After the end, the whole is released.
    Acknowledge {
        /// Which attempt.
        alias: Alias,
        /// Bytes that the client has.
        offset: u32,
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
    /// Checks the lengths of a `hello`; other messages have none to check.
    pub fn validate(&self) -> Result<(), &'static str> {
        match self {
            Self::Hello {
                name,
                software,
                slots,
                models,
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
                Ok(())
            }
            Self::Accepted { .. }
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
