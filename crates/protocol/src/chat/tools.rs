//! Function tools that a request offers to the model.

use serde::{Deserialize, Serialize};

use super::{InvalidRequest, check_schema, invalid};
use crate::limits::{SCHEMA_BYTES_MAX, TOOL_NAME_BYTES_MAX, TOOLS_BYTES_MAX, TOOLS_MAX};

/// A function that the model may wish to have called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// What the model calls it by: letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON schema of its arguments; absent where it takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<serde_json::Value>,
}

/// Whether the model calls tools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// Never, though it may know of them.
    None,
    /// At least one.
    Required,
    /// This one.
    Function {
        /// Which tool.
        name: String,
    },
    /// A choice that this version does not know; refused.
    #[serde(other)]
    Unknown,
}

pub(super) fn validate(tools: &[Tool], choice: &ToolChoice) -> Result<(), InvalidRequest> {
    if tools.len() > TOOLS_MAX {
        return invalid("tools", format!("at most {TOOLS_MAX} tools are taken"));
    }
    let mut bytes = 0;
    for (index, tool) in tools.iter().enumerate() {
        tool.validate()?;
        bytes += tool.bytes();
        let before = tools.get(..index).unwrap_or_default();
        if before.iter().any(|other| other.name == tool.name) {
            return invalid("tools", "two tools have the same name");
        }
    }
    if bytes > TOOLS_BYTES_MAX {
        return invalid(
            "tools",
            format!("all tools together have at most {TOOLS_BYTES_MAX} bytes"),
        );
    }
    let is_offered = |name: &str| tools.iter().any(|tool| tool.name == name);
    match choice {
        ToolChoice::Required if tools.is_empty() => invalid(
            "tool_choice",
            "tool_choice is required, but there are no tools",
        ),
        ToolChoice::Function { name } if !is_offered(name) => invalid(
            "tool_choice",
            "tool_choice names a function that is not among the tools",
        ),
        ToolChoice::Auto
        | ToolChoice::None
        | ToolChoice::Required
        | ToolChoice::Function { .. } => Ok(()),
        ToolChoice::Unknown => invalid(
            "tool_choice",
            "tool_choice must be auto, none, required or a function",
        ),
    }
}

impl Tool {
    /// Bytes that it takes in a prompt, or a little less.
    pub fn bytes(&self) -> usize {
        let parameters = self
            .parameters
            .as_ref()
            .map_or(0, |schema| schema.to_string().len());
        self.name.len() + self.description.as_ref().map_or(0, String::len) + parameters
    }

    fn validate(&self) -> Result<(), InvalidRequest> {
        let is_word = |char: char| char.is_ascii_alphanumeric() || "_-.".contains(char);
        if self.name.is_empty()
            || self.name.len() > TOOL_NAME_BYTES_MAX
            || !self.name.chars().all(is_word)
        {
            return invalid(
                "tools",
                format!(
                    "a tool's name has 1 to {TOOL_NAME_BYTES_MAX} letters, digits, '_', '-' and '.'"
                ),
            );
        }
        if self
            .description
            .as_ref()
            .is_some_and(|text| text.len() > SCHEMA_BYTES_MAX)
        {
            return invalid(
                "tools",
                format!("a description has at most {SCHEMA_BYTES_MAX} bytes"),
            );
        }
        self.parameters
            .as_ref()
            .map_or(Ok(()), |schema| check_schema("tools", schema))
    }
}
