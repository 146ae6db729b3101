//! One turn of a conversation, with what belongs to it: pictures, calls of tools, reasoning.

use serde::{Deserialize, Serialize};

use super::{InvalidRequest, invalid};
use crate::limits::{
    IMAGES_MAX, NAME_BYTES_MAX, TOOL_CALL_ID_BYTES_MAX, TOOL_CALLS_MAX, TOOL_NAME_BYTES_MAX,
};

/// One turn of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said. Empty where the turn is calls of tools only.
    pub content: String,
    /// The speaker's name, for templates that use it; a tool's, where it is the tool that speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Pictures, in order of their places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// What the model wished to have called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool's message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// What the model thought before it said this, for templates that show it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions that hold throughout.
    System,
    /// The person.
    #[default]
    User,
    /// The model.
    Assistant,
    /// What came of a tool call.
    Tool,
    /// A role that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Role {
    /// The word that chat templates use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
            Self::Unknown => "unknown",
        }
    }
}

/// A picture in a message. Never a link: nobody fetches anything for a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Before which byte of the content it stands.
    pub at: u32,
    /// The file (PNG, JPEG, WebP, GIF or BMP), in standard base64 with padding.
    pub data: String,
}

/// The model's wish to have something looked up or made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Names the call in the message that answers it.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// Its arguments as the model wrote them: mostly, but not always, a JSON object.
    pub arguments: String,
}

impl ChatMessage {
    /// A plain message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            ..Self::default()
        }
    }

    pub(super) fn validate(&self) -> Result<(), InvalidRequest> {
        let refuse = |message: String| invalid("messages", message);
        if self.role == Role::Unknown {
            return refuse("role must be system, user, assistant or tool".to_owned());
        }
        if self
            .name
            .as_ref()
            .is_some_and(|name| name.len() > NAME_BYTES_MAX)
        {
            return refuse(format!("a name has at most {NAME_BYTES_MAX} bytes"));
        }
        self.validate_images()?;
        self.validate_tool_calls()
    }

    fn validate_images(&self) -> Result<(), InvalidRequest> {
        let refuse = |message: &str| invalid("messages", message);
        if !self.images.is_empty() && self.role != Role::User && self.role != Role::Tool {
            return refuse("only messages of users and tools may hold images");
        }
        if self.images.len() > IMAGES_MAX {
            return invalid("messages", format!("at most {IMAGES_MAX} images are taken"));
        }
        let mut last = 0;
        for image in &self.images {
            let at = usize::try_from(image.at).unwrap_or(usize::MAX);
            if at < last || !self.content.is_char_boundary(at) {
                return refuse("an image's place must be in the content, in order");
            }
            last = at;
            if image.data.is_empty() {
                return refuse("an image is empty");
            }
        }
        Ok(())
    }

    fn validate_tool_calls(&self) -> Result<(), InvalidRequest> {
        let refuse = |message: String| invalid("messages", message);
        if self.role == Role::Tool && self.tool_call_id.is_none() {
            return refuse("a message of a tool needs the tool_call_id that it answers".to_owned());
        }
        if self.role != Role::Tool && self.tool_call_id.is_some() {
            return refuse("only messages of tools have a tool_call_id".to_owned());
        }
        if self.role != Role::Assistant && (!self.tool_calls.is_empty() || self.reasoning.is_some())
        {
            return refuse("only the assistant calls tools and reasons".to_owned());
        }
        if self.tool_calls.len() > TOOL_CALLS_MAX {
            return refuse(format!("a message has at most {TOOL_CALLS_MAX} tool calls"));
        }
        let ids = self.tool_calls.iter().map(|call| &call.id);
        if ids
            .chain(&self.tool_call_id)
            .any(|id| id.is_empty() || id.len() > TOOL_CALL_ID_BYTES_MAX)
        {
            return refuse(format!(
                "a tool call's id has 1 to {TOOL_CALL_ID_BYTES_MAX} bytes"
            ));
        }
        if self
            .tool_calls
            .iter()
            .any(|call| call.name.is_empty() || call.name.len() > TOOL_NAME_BYTES_MAX)
        {
            return refuse(format!(
                "a tool's name has 1 to {TOOL_NAME_BYTES_MAX} bytes"
            ));
        }
        Ok(())
    }
}
