//! `OpenAI`'s dialect of HTTP: a request body becomes a [`protocol::ChatRequest`], what the relay says becomes
//! completions, chunks, errors and the list of models. Pure translation: no IO, no clock, nothing kept.
//!
//! ```text
//! body ──parse_chat_completion──▶ ChatCompletionRequest ──▶ submit
//! deltas ──CompletionStream──▶ SSE text       failure ──ApiError──▶ status, headers, JSON
//! deltas ──WholeAnswer──▶ JSON                catalog + live numbers ──models──▶ JSON
//! ```
//!
//! Nothing in a request is silently dropped. Every field is in one of these rows; `null` is the same as absent.
//!
//! | field | what happens |
//! |---|---|
//! | `model`, `messages` | required; `model` is a model's or a tier's id |
//! | `stream`, `stream_options.include_usage` | honoured; `stream_options` only with `stream` |
//! | `temperature`, `top_p`, `top_k`, `min_p`, `seed` | honoured; `top_k` and `min_p` are not `OpenAI`'s but common |
//! | `presence_penalty`, `frequency_penalty`, `logit_bias` | honoured |
//! | `stop`, `max_tokens`, `max_completion_tokens` | honoured; the two maxima may both be given if they agree |
//! | `response_format` | `text`, `json_object`, `json_schema` (bound by a grammar, whatever `strict` says) |
//! | `logprobs`, `top_logprobs` | honoured |
//! | `user`, `safety_identifier`, `prompt_cache_key`, `metadata` | accepted, checked, and forgotten: they change no answer and nothing is stored |
//! | `n: 1`, `store: false`, `service_tier: "auto"` or `"default"`, `modalities: ["text"]`, `stream_options.include_obfuscation: false` | accepted: that is what happens anyway; any other value is refused |
//! | `tools`, `tool_choice`, `parallel_tool_calls` | honoured: function tools; with `required` or a named function arguments are held to their schema, whatever `strict` says; with `auto` a schema that cannot be made a grammar holds them to any object |
//! | `reasoning_effort`, `chat_template_kwargs.enable_thinking` | honoured by models that think; the latter is vLLM's and llama.cpp's |
//! | `functions`, `function_call`, `audio`, … | refused by name, `unsupported_parameter` |
//! | anything else | refused by name, `unknown_parameter`; so is the same field given twice |
//!
//! In a message: `role` is `system`, `developer` (the same), `user`, `assistant` or `tool`; `content` is a string or an
//! array of `text` parts, which are joined by a line break, and `image_url` parts, which must be data URLs; `name`,
//! `tool_calls`, `tool_call_id` and `reasoning_content` are honoured. A last message of the assistant is gone on with.
//! What `OpenAI`'s libraries echo from an answer is accepted where it is empty (`refusal`, `audio`, `function_call`,
//! `annotations`). The role `function`, and other parts, are refused by name.
//!
//! `POST /v1/embeddings`: `model`, `input` (a text or texts), `encoding_format`, `dimensions`, `user`.

mod embeddings;
mod error;
mod models;
mod request;
mod response;
mod sse;

pub use embeddings::Embeddings;
pub use error::ApiError;
pub use models::{LiveModel, model_json, models_json};
pub use request::{
    ChatCompletionRequest, EmbeddingsRequest, parse_chat_completion, parse_embeddings,
};
pub use response::{Alternative, CompletionHead, TokenLogprob, WholeAnswer, decode_logprobs};
pub use sse::{CompletionStream, SSE_CONTENT_TYPE, SSE_DONE, sse_comment, sse_error};

#[cfg(test)]
mod tests;
