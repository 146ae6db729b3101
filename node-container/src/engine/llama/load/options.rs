//! What to load, as the operator asks for it.

use std::path::PathBuf;

use llama_cpp_2::model::LlamaModel;

use super::outcome::LoadError;
use crate::engine::embed::Pooling;
use crate::engine::llama::cache::spare_sequences;
use crate::engine::tuning;

/// A context that fits most cards; models trained for less get what they were trained for.
const CONTEXT_TOKENS_DEFAULT: u32 = 8192;

/// What to load.
#[derive(Debug, Clone)]
pub struct LlamaOptions {
    /// A GGUF file.
    pub model_file: PathBuf,
    /// Jobs at once.
    pub slots: u32,
    /// Tokens per slot; without it, 8192 or what the model was trained for, whichever is less.
    pub context_tokens: Option<u32>,
    /// Threads that compute; without it, found by a short run ([`tuning`]).
    pub threads: Option<u32>,
    /// Prompt tokens per step at most; without it, found by a short run.
    pub prompt_batch: Option<u32>,
    /// How the cache holds its numbers.
    pub cache_type: CacheType,
    /// Finished conversations that stay in the cache, so that follow-ups are quick; 0 keeps none.
    pub cached_conversations: u32,
    /// What lets the model see, a GGUF file.
    pub projector_file: Option<PathBuf>,
    /// A Jinja template to use instead of the model file's own.
    pub chat_template: Option<String>,
    /// How to make vectors of texts, for models that do not say so themselves.
    pub embeddings: Option<Pooling>,
    /// For tests: no decode step succeeds while there is a file here.
    pub break_while: Option<PathBuf>,
}

impl LlamaOptions {
    /// One slot and one thread; keeps nothing of what is finished.
    pub const fn new(model_file: PathBuf) -> Self {
        Self {
            model_file,
            slots: 1,
            context_tokens: None,
            threads: Some(1),
            prompt_batch: Some(tuning::PROMPT_BATCH_MAX / 2),
            cache_type: CacheType::F16,
            cached_conversations: 0,
            projector_file: None,
            chat_template: None,
            embeddings: None,
            break_while: None,
        }
    }
}

/// How the cache of a context holds its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum CacheType {
    /// 16 bits each.
    F16,
    /// 8 bits and a scale for each 32: about half the memory, a little less exact.
    #[value(name = "q8_0")]
    Q8,
}

/// Sequences for what the prefix cache holds.
pub(in crate::engine::llama) fn spares(options: &LlamaOptions) -> u32 {
    spare_sequences(options.slots, options.cached_conversations)
}

/// Tokens per slot, within what the model was trained for.
pub(in crate::engine::llama) fn context_tokens(
    model: &LlamaModel,
    options: &LlamaOptions,
) -> Result<u32, LoadError> {
    let trained = model.n_ctx_train();
    match options.context_tokens {
        None => Ok(CONTEXT_TOKENS_DEFAULT.min(trained)),
        Some(asked) if asked > trained => Err(LoadError::ContextTooLong { trained, asked }),
        Some(asked) => Ok(asked),
    }
}
