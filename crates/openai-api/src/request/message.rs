//! One message of the conversation.

use protocol::limits::{
    CLIENT_FRAME_BYTES_MAX, NAME_BYTES_MAX, TOOL_CALL_ID_BYTES_MAX, TOOL_CALLS_MAX,
    TOOL_NAME_BYTES_MAX,
};
use protocol::{ChatMessage, Image, Role, ToolCall};

use super::field::{Field, Object};
use super::{FIELDS_MAX, optional};
use crate::ApiError;

/// Parts of one message; each becomes a line of text, or a picture.
const PARTS_MAX: usize = 1024;

/// Fields that ask for what this network does not do; accepted as `null`, which is how answers are echoed.
const UNSUPPORTED: [&str; 3] = ["audio", "function_call", "refusal"];

pub(super) fn message(field: &Field<'_>) -> Result<ChatMessage, ApiError> {
    let mut fields = field.object(FIELDS_MAX)?;
    let role = role(&fields.required("role")?)?;
    let tool_calls = tool_calls(&mut fields)?;
    let Content { text, images } = match fields.take("content") {
        Some(content) => read_content(&content)?,
        None if !tool_calls.is_empty() => Content::default(),
        None => read_content(&fields.required("content")?)?,
    };
    let name = optional(fields.take("name"), |name| name.string(NAME_BYTES_MAX))?;
    let tool_call_id = optional(fields.take("tool_call_id"), |id| {
        id.string(TOOL_CALL_ID_BYTES_MAX)
    })?;
    let reasoning = optional(fields.take("reasoning_content"), |text| {
        text.text(CLIENT_FRAME_BYTES_MAX)
    })?;
    // An answer of OpenAI's carries an empty list of citations; sending it back means nothing.
    if let Some(annotations) = fields.take("annotations")
        && !annotations.list(PARTS_MAX)?.is_empty()
    {
        return Err(annotations.unsupported_value("Only an empty array is supported."));
    }
    fields.refuse_rest(&UNSUPPORTED)?;
    Ok(ChatMessage {
        role,
        content: text,
        name,
        images,
        tool_calls,
        tool_call_id,
        reasoning: reasoning.filter(|text| !text.is_empty()),
    })
}

fn role(field: &Field<'_>) -> Result<Role, ApiError> {
    match field.string(NAME_BYTES_MAX)?.as_str() {
        // OpenAI's newer models call the system's voice the developer's; chat templates know only the former.
        "system" | "developer" => Ok(Role::System),
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "tool" => Ok(Role::Tool),
        "function" => Err(field.unsupported_value("Use 'tool' and 'tool_call_id'.")),
        _ => Err(field.unsupported_value(
            "Supported values are: 'system', 'developer', 'user', 'assistant' and 'tool'.",
        )),
    }
}

/// What a message says and shows.
#[derive(Default)]
struct Content {
    text: String,
    images: Vec<Image>,
}

fn read_content(field: &Field<'_>) -> Result<Content, ApiError> {
    if field.is_string() {
        let text = field.text(CLIENT_FRAME_BYTES_MAX)?;
        return Ok(Content {
            text,
            images: Vec::new(),
        });
    }
    if !field.is_list() {
        return Err(field.wrong_type("one of a string or array of objects"));
    }
    let mut content = Content::default();
    let mut is_after_text = false;
    for part in field.list(PARTS_MAX)? {
        let mut fields = part.object(FIELDS_MAX)?;
        let kind = fields.required("type")?;
        match kind.string(NAME_BYTES_MAX)?.as_str() {
            "text" => {
                let text = fields.required("text")?.text(CLIENT_FRAME_BYTES_MAX)?;
                if is_after_text {
                    content.text.push('\n');
                }
                content.text.push_str(&text);
                is_after_text = true;
            }
            "image_url" => {
                let data = image(&fields.required("image_url")?)?;
                // A request has less than 2^32 bytes.
                let at = u32::try_from(content.text.len()).unwrap_or(u32::MAX);
                content.images.push(Image { at, data });
                is_after_text = false;
            }
            _ => {
                return Err(
                    kind.unsupported_value("Only 'text' and 'image_url' parts are supported.")
                );
            }
        }
        fields.refuse_rest(&[])?;
    }
    Ok(content)
}

/// The base64 of a data URL. What is in it is the node's to judge.
fn image(field: &Field<'_>) -> Result<String, ApiError> {
    let mut fields = field.object(FIELDS_MAX)?;
    // One size serves all models here; what it is, the model's own projector says.
    if let Some(detail) = fields.take("detail") {
        let word = detail.string(NAME_BYTES_MAX)?;
        if !["auto", "low", "high"].contains(&word.as_str()) {
            return Err(detail.unsupported_value("Supported values are: 'auto', 'low' and 'high'."));
        }
    }
    let url = fields.required("url")?;
    fields.refuse_rest(&[])?;
    let text = url.string(CLIENT_FRAME_BYTES_MAX)?;
    let data = text
        .strip_prefix("data:image/")
        .and_then(|rest| rest.split_once(";base64,"))
        .map(|(_, data)| data)
        .ok_or_else(|| {
            url.invalid(
                "invalid_value",
                "only data URLs are taken, such as 'data:image/png;base64,…': nothing is fetched for a prompt",
            )
        })?;
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    if data.is_empty() || !data.bytes().all(is_base64) {
        return Err(url.invalid("invalid_value", "the image is not base64"));
    }
    Ok(data.to_owned())
}

fn tool_calls(fields: &mut Object<'_>) -> Result<Vec<ToolCall>, ApiError> {
    let Some(field) = fields.take("tool_calls") else {
        return Ok(Vec::new());
    };
    field
        .list(TOOL_CALLS_MAX)?
        .iter()
        .map(|call| {
            let mut fields = call.object(FIELDS_MAX)?;
            let kind = fields.required("type")?;
            if kind.string(NAME_BYTES_MAX)? != "function" {
                return Err(kind.unsupported_value("Only 'function' is supported."));
            }
            let id = fields.required("id")?.string(TOOL_CALL_ID_BYTES_MAX)?;
            let mut function = fields.required("function")?.object(FIELDS_MAX)?;
            // Libraries echo the place in the list from streams.
            optional(fields.take("index"), |index| {
                index.integer(0, i128::from(u32::MAX))
            })?;
            fields.refuse_rest(&[])?;
            let name = function.required("name")?.string(TOOL_NAME_BYTES_MAX)?;
            let arguments = function
                .required("arguments")?
                .text(CLIENT_FRAME_BYTES_MAX)?;
            function.refuse_rest(&[])?;
            Ok(ToolCall {
                id,
                name,
                arguments,
            })
        })
        .collect()
}
