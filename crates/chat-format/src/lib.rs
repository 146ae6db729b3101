//! What language models read and write: conversations become prompts here, by the model file's own template.
//!
//! No IO, no clock: the time that a template may ask for is an argument.

pub mod template;
