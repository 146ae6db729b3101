//! `POST /v1/embeddings`: the body, field by field.

use protocol::EmbedRequest;
use protocol::limits::{CLIENT_FRAME_BYTES_MAX, EMBED_INPUTS_MAX, NAME_BYTES_MAX};

use super::field::{self, Field};
use super::{FIELDS_MAX, IDENTIFIER_BYTES_MAX, optional};
use crate::ApiError;

/// A request for embeddings in the network's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingsRequest {
    /// A model's or a tier's id, not looked up yet.
    pub model: String,
    /// Whether vectors are told as base64 of 32-bit floats instead of lists of numbers.
    pub is_base64: bool,
    /// What to turn into vectors.
    pub request: EmbedRequest,
}

/// Reads a request body. Whatever it does not understand it refuses by name.
pub fn parse_embeddings(body: &[u8]) -> Result<EmbeddingsRequest, ApiError> {
    let text = super::utf8(body)?;
    let mut fields = field::body(text, FIELDS_MAX)?;
    optional(fields.take("user"), |field| {
        field.text(IDENTIFIER_BYTES_MAX)
    })?;
    let model = fields.required("model")?.string(NAME_BYTES_MAX)?;
    let inputs = inputs(&fields.required("input")?)?;
    let is_base64 = optional(fields.take("encoding_format"), |field| {
        match field.string(NAME_BYTES_MAX)?.as_str() {
            "float" => Ok(false),
            "base64" => Ok(true),
            _ => Err(field.unsupported_value("Supported values are: 'float' and 'base64'.")),
        }
    })?;
    let dimensions = optional(fields.take("dimensions"), |field| {
        field.integer(1, i128::from(u32::MAX))
    })?;
    fields.refuse_rest(&[])?;
    let request = EmbedRequest {
        inputs,
        dimensions: dimensions.and_then(|count| u32::try_from(count).ok()),
    };
    request.validate()?;
    Ok(EmbeddingsRequest {
        model,
        is_base64: is_base64.unwrap_or(false),
        request,
    })
}

fn inputs(field: &Field<'_>) -> Result<Vec<String>, ApiError> {
    if field.is_string() {
        return Ok(vec![field.string(CLIENT_FRAME_BYTES_MAX)?]);
    }
    if !field.is_list() {
        return Err(field.wrong_type("one of a string or array of strings"));
    }
    // Token ids would be of some vocabulary that the caller had to guess.
    field
        .list(EMBED_INPUTS_MAX)?
        .iter()
        .map(|input| input.string(CLIENT_FRAME_BYTES_MAX))
        .collect()
}
