//! What language models read and write: conversations become prompts here, by the model file's own template, and what a
//! model writes becomes text, reasoning and tool calls.
//!
//! No IO, no clock: the time that a template may ask for is an argument.

pub mod answer;
pub mod detokenise;
pub mod family;
pub mod gbnf;
pub mod given;
pub mod logprobs;
pub mod parse;
pub mod stop;
pub mod template;
pub mod vocabulary;
