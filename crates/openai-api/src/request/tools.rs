//! Function tools, and how much a model thinks.

use protocol::chat::{ReasoningEffort, Tool, ToolChoice};
use protocol::limits::{NAME_BYTES_MAX, SCHEMA_BYTES_MAX, TOOL_NAME_BYTES_MAX, TOOLS_MAX};

use super::field::{Field, Object};
use super::{FIELDS_MAX, optional};
use crate::ApiError;

pub(super) fn tools(fields: &mut Object<'_>) -> Result<Vec<Tool>, ApiError> {
    let Some(field) = fields.take("tools") else {
        return Ok(Vec::new());
    };
    field.list(TOOLS_MAX)?.iter().map(tool).collect()
}

fn tool(field: &Field<'_>) -> Result<Tool, ApiError> {
    let mut fields = field.object(FIELDS_MAX)?;
    only_functions(&fields.required("type")?)?;
    let mut function = fields.required("function")?.object(FIELDS_MAX)?;
    fields.refuse_rest(&[])?;
    let name = function.required("name")?.string(TOOL_NAME_BYTES_MAX)?;
    let description = optional(function.take("description"), |text| {
        text.text(SCHEMA_BYTES_MAX)
    })?;
    let parameters = optional(function.take("parameters"), |schema| {
        schema.json_object(SCHEMA_BYTES_MAX)
    })?;
    // It changes nothing: arguments are held to the schema as far as that can be done.
    optional(function.take("strict"), Field::boolean)?;
    function.refuse_rest(&[])?;
    Ok(Tool {
        name,
        description,
        parameters,
    })
}

fn only_functions(kind: &Field<'_>) -> Result<(), ApiError> {
    if kind.string(NAME_BYTES_MAX)? == "function" {
        Ok(())
    } else {
        Err(kind.unsupported_value("Only 'function' is supported."))
    }
}

pub(super) fn tool_choice(fields: &mut Object<'_>) -> Result<ToolChoice, ApiError> {
    let Some(field) = fields.take("tool_choice") else {
        return Ok(ToolChoice::Auto);
    };
    if !field.is_string() {
        let mut choice = field.object(FIELDS_MAX)?;
        only_functions(&choice.required("type")?)?;
        let mut function = choice.required("function")?.object(FIELDS_MAX)?;
        choice.refuse_rest(&[])?;
        let name = function.required("name")?.string(TOOL_NAME_BYTES_MAX)?;
        function.refuse_rest(&[])?;
        return Ok(ToolChoice::Function { name });
    }
    match field.string(NAME_BYTES_MAX)?.as_str() {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" => Ok(ToolChoice::Required),
        _ => Err(field.unsupported_value(
            "Supported values are: 'none', 'auto', 'required' and an object that names a function.",
        )),
    }
}

pub(super) fn parallel_tool_calls(fields: &mut Object<'_>) -> Result<Option<bool>, ApiError> {
    optional(fields.take("parallel_tool_calls"), Field::boolean)
}

/// `reasoning_effort`, or what vLLM's and llama.cpp's users write for the same.
pub(super) fn reasoning(fields: &mut Object<'_>) -> Result<Option<ReasoningEffort>, ApiError> {
    let effort = optional(fields.take("reasoning_effort"), |field| {
        Ok(match field.string(NAME_BYTES_MAX)?.as_str() {
            "none" => ReasoningEffort::None,
            "minimal" | "low" => ReasoningEffort::Low,
            "medium" => ReasoningEffort::Medium,
            "high" | "xhigh" => ReasoningEffort::High,
            _ => {
                return Err(field.unsupported_value(
                    "Supported values are: 'none', 'minimal', 'low', 'medium' and 'high'.",
                ));
            }
        })
    })?;
    let Some(template) = fields.take("chat_template_kwargs") else {
        return Ok(effort);
    };
    let mut template = template.object(FIELDS_MAX)?;
    let thinks = optional(template.take("enable_thinking"), Field::boolean)?;
    template.refuse_rest(&[])?;
    Ok(effort.or(match thinks {
        Some(false) => Some(ReasoningEffort::None),
        Some(true) => Some(ReasoningEffort::Medium),
        None => None,
    }))
}
