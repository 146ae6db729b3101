//! What a conversation is made of, also as it lies in the browser's storage.

use protocol::{Failure, FinishReason, WaitRange};
use serde::{Deserialize, Serialize};

/// A message's name within its conversation; later ones are greater.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct MessageId(pub u64);

/// A question or an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its name.
    pub id: MessageId,
    /// Grows with each change, so that views can tell.
    #[serde(skip)]
    pub revision: u32,
    /// What it says.
    pub body: Body,
}

/// Who says what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// The person.
    User(String),
    /// The model.
    Assistant(Answer),
}

/// An answer, whole or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What the model thought before it answered, plain, as far as it has come. Not sent back with the conversation.
    #[serde(default)]
    pub thoughts: String,
    /// Markdown, as far as it has come.
    pub text: String,
    /// Where it stands.
    pub phase: Phase,
    /// Whom the person asked: a tier's id.
    #[serde(default)]
    pub tier: Option<String>,
    /// The model that answers.
    pub model: Option<String>,
    /// The node that answers.
    pub node: Option<String>,
}

/// Where an answer stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// There is no connection to send the question over.
    Unsent,
    /// The relay has not said anything yet.
    Sent,
    /// It waits for a node.
    Queued {
        /// The model it waits for.
        model: String,
        /// Place in line, 1 is next.
        position: u32,
        /// Nodes that offer the model.
        nodes: u32,
        /// How long it may take, as it was told.
        #[serde(default)]
        wait: Option<WaitRange>,
    },
    /// A node reads the conversation, and what there is of the answer.
    Reading,
    /// Thoughts arrive.
    Thinking,
    /// Text arrives.
    Streaming,
    /// The connection is lost; the answer goes on when it is back.
    Reconnecting,
    /// The answer is whole.
    Done(Meta),
    /// The person stopped it.
    Stopped,
    /// It broke.
    Failed(Trouble),
}

/// What is worth knowing about a whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Its length.
    pub completion_tokens: u32,
    /// 0 where there was nothing to measure.
    pub tokens_per_second: f64,
    /// From assignment to the first text.
    pub first_token_ms: u64,
}

/// Why an answer broke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// The relay or the node said so.
    Failure(Failure),
    /// The connection did not come back in time, or a piece is missing for good.
    Interrupted,
    /// The page was closed or loaded anew meanwhile.
    Reloaded,
}

impl Message {
    /// Whether the person wrote it.
    pub const fn is_question(&self) -> bool {
        match self.body {
            Body::User(_) => true,
            Body::Assistant(_) => false,
        }
    }

    /// The answer that it is, if it is one.
    pub const fn answer(&self) -> Option<&Answer> {
        match &self.body {
            Body::User(_) => None,
            Body::Assistant(answer) => Some(answer),
        }
    }

    /// What it says, by either side.
    pub fn text(&self) -> &str {
        match &self.body {
            Body::User(text) => text,
            Body::Assistant(answer) => &answer.text,
        }
    }
}

impl Answer {
    pub(super) const fn new() -> Self {
        Self {
            thoughts: String::new(),
            text: String::new(),
            phase: Phase::Unsent,
            tier: None,
            model: None,
            node: None,
        }
    }
}

impl Phase {
    /// Whether nothing more comes.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Unsent
            | Self::Sent
            | Self::Queued { .. }
            | Self::Reading
            | Self::Thinking
            | Self::Streaming
            | Self::Reconnecting => false,
            Self::Done(_) | Self::Stopped | Self::Failed(_) => true,
        }
    }
}
