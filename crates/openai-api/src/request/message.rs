//! One message of the conversation.

use protocol::limits::{CLIENT_FRAME_BYTES_MAX, NAME_BYTES_MAX};
use protocol::{ChatMessage, Role};

use super::field::{Field, Object};
use super::{FIELDS_MAX, optional};
use crate::ApiError;

/// Parts of one message; each becomes a line of text.
const PARTS_MAX: usize = 1024;

/// Fields that ask for what this network does not do; accepted as `null`, which is how answers are echoed.
const UNSUPPORTED: [&str; 6] = [
    "audio",
    "function_call",
    "reasoning_content",
    "refusal",
    "tool_call_id",
    "tool_calls",
];

pub(super) fn message(field: &Field<'_>) -> Result<ChatMessage, ApiError> {
    let mut fields = field.object(FIELDS_MAX)?;
    let role = role(&fields.required("role")?)?;
    let content = content(&mut fields)?;
    let name = optional(fields.take("name"), |name| name.string(NAME_BYTES_MAX))?;
    // An answer of OpenAI's carries an empty list of citations; sending it back means nothing.
    if let Some(annotations) = fields.take("annotations")
        && !annotations.list(PARTS_MAX)?.is_empty()
    {
        return Err(annotations.unsupported_value("Only an empty array is supported."));
    }
    fields.refuse_rest(&UNSUPPORTED)?;
    Ok(ChatMessage {
        role,
        content,
        name,
        ..ChatMessage::default()
    })
}

fn role(field: &Field<'_>) -> Result<Role, ApiError> {
    match field.string(NAME_BYTES_MAX)?.as_str() {
        // OpenAI's newer models call the system's voice the developer's; chat templates know only the former.
        "system" | "developer" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" | "function" => Err(field.unsupported_value("Tools are not supported here.")),
        _ => Err(field.unsupported_value(
            "Supported values are: 'system', 'developer', 'user' and 'assistant'.",
        )),
    }
}

fn content(fields: &mut Object<'_>) -> Result<String, ApiError> {
    let field = fields.required("content")?;
    if field.is_string() {
        return field.text(CLIENT_FRAME_BYTES_MAX);
    }
    if !field.is_list() {
        return Err(field.wrong_type("one of a string or array of objects"));
    }
    let parts = field
        .list(PARTS_MAX)?
        .into_iter()
        .map(|part| {
            let mut fields = part.object(FIELDS_MAX)?;
            let kind = fields.required("type")?;
            if kind.string(NAME_BYTES_MAX)? != "text" {
                return Err(kind.unsupported_value("Only 'text' parts are supported."));
            }
            let text = fields.required("text")?.text(CLIENT_FRAME_BYTES_MAX)?;
            fields.refuse_rest(&[])?;
            Ok(text)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(parts.join("\n"))
}
