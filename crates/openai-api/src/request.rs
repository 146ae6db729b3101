//! Request bodies, field by field: `POST /v1/chat/completions` into a [`ChatRequest`], `POST /v1/embeddings` into an
//! [`EmbedRequest`](protocol::EmbedRequest).

mod embeddings;
mod field;
mod message;
mod tools;

use protocol::chat::{LogitBias, ResponseFormat, Sampling};
use protocol::limits::{
    LOGIT_BIASES_MAX, MESSAGES_MAX, NAME_BYTES_MAX, SCHEMA_BYTES_MAX, STOP_BYTES_MAX, STOPS_MAX,
    TOP_LOGPROBS_MAX,
};
use protocol::{ChatMessage, ChatRequest};

pub use embeddings::{EmbeddingsRequest, parse_embeddings};

use crate::ApiError;
use field::{Field, Object};

/// Fields of `OpenAI`'s that ask for what this network does not do (yet). Named, so that the refusal can say so.
const UNSUPPORTED: [&str; 8] = [
    "audio",
    "function_call",
    "functions",
    "moderation",
    "prediction",
    "prompt_cache_retention",
    "verbosity",
    "web_search_options",
];

/// More fields than `OpenAI` has and room for new ones; the surplus would be refused one by one anyway.
const FIELDS_MAX: usize = 64;
/// `OpenAI`'s limits for `metadata`.
const METADATA_PAIRS_MAX: usize = 16;
const METADATA_KEY_CHARS_MAX: usize = 64;
const METADATA_VALUE_CHARS_MAX: usize = 512;
/// For identifiers that are checked and forgotten.
const IDENTIFIER_BYTES_MAX: usize = 512;

/// A chat completion request in the network's words.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatCompletionRequest {
    /// A model's or a tier's id, not looked up yet.
    pub model: String,
    /// Whether the answer comes as it is made.
    pub stream: bool,
    /// Whether a stream ends with a chunk that tells the usage.
    pub include_usage: bool,
    /// The conversation and how to answer it, within every range that does not need the model.
    pub request: ChatRequest,
}

/// Reads a request body. Whatever it does not understand it refuses by name.
pub fn parse_chat_completion(body: &[u8]) -> Result<ChatCompletionRequest, ApiError> {
    let text = utf8(body)?;
    let mut fields = field::body(text, FIELDS_MAX)?;
    accept_what_changes_nothing(&mut fields)?;
    let model = fields.required("model")?.string(NAME_BYTES_MAX)?;
    let (stream, include_usage) = streaming(&mut fields)?;
    let request = ChatRequest {
        messages: messages(&mut fields)?,
        sampling: sampling(&mut fields)?,
        stop: stop(&mut fields)?,
        max_tokens: max_tokens(&mut fields)?,
        response_format: response_format(&mut fields)?,
        top_logprobs: top_logprobs(&mut fields)?,
        tools: tools::tools(&mut fields)?,
        tool_choice: tools::tool_choice(&mut fields)?,
        parallel_tool_calls: tools::parallel_tool_calls(&mut fields)?,
        reasoning: tools::reasoning(&mut fields)?,
    };
    fields.refuse_rest(&UNSUPPORTED)?;
    // Everything was checked above in OpenAI's terms; this holds the two sets of rules together.
    request.validate()?;
    Ok(ChatCompletionRequest {
        model,
        stream,
        include_usage,
        request,
    })
}

fn utf8(body: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(body).map_err(|error| {
        let place = format!("byte {} is not valid UTF-8", error.valid_up_to() + 1);
        ApiError::malformed(&place)
    })
}

fn streaming(fields: &mut Object<'_>) -> Result<(bool, bool), ApiError> {
    let stream = optional(fields.take("stream"), Field::boolean)?.unwrap_or(false);
    let Some(options) = fields.take("stream_options") else {
        return Ok((stream, false));
    };
    if !stream {
        return Err(ApiError::invalid(
            "invalid_request",
            "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        ));
    }
    let mut options = options.object(FIELDS_MAX)?;
    let include_usage = optional(options.take("include_usage"), Field::boolean)?.unwrap_or(false);
    if let Some(obfuscation) = options.take("include_obfuscation")
        && obfuscation.boolean()?
    {
        return Err(obfuscation.unsupported_value("Only false is supported."));
    }
    options.refuse_rest(&[])?;
    Ok((stream, include_usage))
}

fn messages(fields: &mut Object<'_>) -> Result<Vec<ChatMessage>, ApiError> {
    let field = fields.required("messages")?;
    let list = field.list(MESSAGES_MAX)?;
    if list.is_empty() {
        return Err(ApiError::invalid(
            "empty_array",
            "messages",
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
        ));
    }
    list.iter().map(message::message).collect()
}

fn sampling(fields: &mut Object<'_>) -> Result<Sampling, ApiError> {
    let mut decimal = |name: &str, least: f32, most: f32| {
        optional(fields.take(name), |field| field.decimal(least, most))
    };
    let temperature = decimal("temperature", 0.0, 2.0)?;
    // 0 would keep no token at all; everybody who sends it means "only the likeliest".
    let top_p = decimal("top_p", 0.0, 1.0)?.map(|share| share.max(f32::MIN_POSITIVE));
    let min_p = decimal("min_p", 0.0, 1.0)?;
    let presence_penalty = decimal("presence_penalty", -2.0, 2.0)?;
    let frequency_penalty = decimal("frequency_penalty", -2.0, 2.0)?;
    let top_k = optional(fields.take("top_k"), |field| {
        field.integer(0, i128::from(u32::MAX))
    })?;
    // OpenAI's seed is signed, ours is not: the same bits serve.
    let seed = optional(fields.take("seed"), |field| {
        field.integer(i128::from(i64::MIN), i128::from(u64::MAX))
    })?;
    Ok(Sampling {
        temperature,
        top_p,
        top_k: top_k.and_then(|k| u32::try_from(k).ok()),
        min_p,
        seed: seed.map(|seed| {
            u64::try_from(seed)
                .unwrap_or_else(|_| i64::try_from(seed).unwrap_or_default().cast_unsigned())
        }),
        presence_penalty,
        frequency_penalty,
        logit_bias: logit_bias(fields)?,
    })
}

fn logit_bias(fields: &mut Object<'_>) -> Result<Vec<LogitBias>, ApiError> {
    let Some(field) = fields.take("logit_bias") else {
        return Ok(Vec::new());
    };
    field
        .object(LOGIT_BIASES_MAX)?
        .into_fields()
        .map(|(name, field)| {
            let token = name.parse().map_err(|_| {
                ApiError::invalid(
                    "invalid_key",
                    "logit_bias",
                    "Invalid key in 'logit_bias': you should only be using token ids (non-negative integers) as keys.",
                )
            })?;
            let bias = field.decimal(-100.0, 100.0)?;
            Ok(LogitBias { token, bias })
        })
        .collect()
}

fn stop(fields: &mut Object<'_>) -> Result<Vec<String>, ApiError> {
    let Some(field) = fields.take("stop") else {
        return Ok(Vec::new());
    };
    if field.is_string() {
        return Ok(vec![field.string(STOP_BYTES_MAX)?]);
    }
    field
        .list(STOPS_MAX)?
        .iter()
        .map(|stop| stop.string(STOP_BYTES_MAX))
        .collect()
}

fn max_tokens(fields: &mut Object<'_>) -> Result<Option<u32>, ApiError> {
    let mut maximum = |name: &str| {
        optional(fields.take(name), |field| {
            field.integer(1, i128::from(u32::MAX))
        })
    };
    let old = maximum("max_tokens")?;
    let new = maximum("max_completion_tokens")?;
    if let (Some(old), Some(new)) = (old, new)
        && old != new
    {
        return Err(ApiError::invalid(
            "invalid_request",
            "max_tokens",
            "'max_tokens' and 'max_completion_tokens' differ. Send only 'max_completion_tokens'.",
        ));
    }
    Ok(new.or(old).and_then(|most| u32::try_from(most).ok()))
}

fn response_format(fields: &mut Object<'_>) -> Result<ResponseFormat, ApiError> {
    let Some(field) = fields.take("response_format") else {
        return Ok(ResponseFormat::Text);
    };
    let mut format = field.object(FIELDS_MAX)?;
    let kind = format.required("type")?;
    let parsed = match kind.string(NAME_BYTES_MAX)?.as_str() {
        "text" => ResponseFormat::Text,
        "json_object" => ResponseFormat::JsonObject,
        "json_schema" => json_schema(&format.required("json_schema")?)?,
        _ => {
            return Err(kind.unsupported_value(
                "Supported values are: 'text', 'json_object' and 'json_schema'.",
            ));
        }
    };
    format.refuse_rest(&[])?;
    Ok(parsed)
}

fn json_schema(field: &Field<'_>) -> Result<ResponseFormat, ApiError> {
    const NAME_CHARS_MAX: usize = 64;
    let mut described = field.object(FIELDS_MAX)?;
    let name_field = described.required("name")?;
    let name = name_field.string(NAME_CHARS_MAX)?;
    if !name
        .chars()
        .all(|char| char.is_ascii_alphanumeric() || "_-".contains(char))
    {
        return Err(name_field.invalid(
            "invalid_value",
            "string does not match pattern. Expected letters, digits, '_' and '-'",
        ));
    }
    optional(described.take("description"), |field| {
        field.text(SCHEMA_BYTES_MAX)
    })?;
    optional(described.take("strict"), Field::boolean)?;
    let schema = described
        .required("schema")?
        .json_object(SCHEMA_BYTES_MAX)?;
    described.refuse_rest(&[])?;
    Ok(ResponseFormat::JsonSchema { schema })
}

fn top_logprobs(fields: &mut Object<'_>) -> Result<Option<u8>, ApiError> {
    let wanted = optional(fields.take("logprobs"), Field::boolean)?.unwrap_or(false);
    let top = optional(fields.take("top_logprobs"), |field| {
        field.integer(0, i128::from(TOP_LOGPROBS_MAX))
    })?;
    if top.is_some() && !wanted {
        return Err(ApiError::invalid(
            "invalid_request",
            "top_logprobs",
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
        ));
    }
    let top = top.and_then(|n| u8::try_from(n).ok()).unwrap_or(0);
    Ok(wanted.then_some(top))
}

/// Takes the fields that clients send by habit and that ask for nothing special; any other value is refused.
fn accept_what_changes_nothing(fields: &mut Object<'_>) -> Result<(), ApiError> {
    for name in ["user", "safety_identifier", "prompt_cache_key"] {
        optional(fields.take(name), |field| field.text(IDENTIFIER_BYTES_MAX))?;
    }
    if let Some(metadata) = fields.take("metadata") {
        for (key, value) in metadata.object(METADATA_PAIRS_MAX)?.into_fields() {
            if key.chars().count() > METADATA_KEY_CHARS_MAX {
                return Err(metadata.invalid(
                    "string_above_max_length",
                    "a key is longer than 64 characters",
                ));
            }
            // A character has at most four bytes.
            value.text(4 * METADATA_VALUE_CHARS_MAX)?;
        }
    }
    if let Some(n) = fields.take("n")
        && n.integer(1, 128)? != 1
    {
        return Err(n.unsupported_value("Only 1 is supported."));
    }
    if let Some(store) = fields.take("store")
        && store.boolean()?
    {
        return Err(store.unsupported_value("Nothing is stored here: only false is supported."));
    }
    if let Some(tier) = fields.take("service_tier")
        && !["auto", "default"].contains(&tier.string(NAME_BYTES_MAX)?.as_str())
    {
        return Err(tier.unsupported_value("Supported values are: 'auto' and 'default'."));
    }
    if let Some(modalities) = fields.take("modalities") {
        for modality in modalities.list(FIELDS_MAX)? {
            if modality.string(NAME_BYTES_MAX)? != "text" {
                return Err(modality.unsupported_value("Only 'text' is supported."));
            }
        }
    }
    Ok(())
}

fn optional<'a, T>(
    field: Option<Field<'a>>,
    read: impl FnOnce(&Field<'a>) -> Result<T, ApiError>,
) -> Result<Option<T>, ApiError> {
    field.map(|field| read(&field)).transpose()
}

#[cfg(test)]
mod tests;
