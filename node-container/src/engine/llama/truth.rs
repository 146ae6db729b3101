//! Logits as exact as llama.cpp makes them on the CPU: the truth that another engine is compared with.
//!
//! Keys and values stay in 32 bits and attention is computed step by step. Products are exact only where the file's
//! weights are 32-bit floats: with all other types llama.cpp rounds what it multiplies them with.

use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::Path;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;

use super::load::backend::backend;
use super::load::file::load_model;
use super::load::outcome::LoadError;
use super::{LlamaOptions, slot};

/// Tokens that are read at once.
const BATCH_TOKENS: u32 = 64;

/// Why there are no logits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("llama.cpp could not read the tokens: {0}")]
pub struct TruthError(String);

/// Loads a model and lends it to `work`, with room for so many tokens. So many threads compute.
pub fn with_truth<T>(
    file: &Path,
    context_tokens: NonZeroU32,
    threads: i32,
    work: impl FnOnce(&mut Truth<'_>) -> T,
) -> Result<T, LoadError> {
    let model = load_model(&LlamaOptions::new(file.to_owned()))?;
    let params = LlamaContextParams::default()
        .with_n_ctx(Some(context_tokens))
        .with_n_batch(BATCH_TOKENS)
        .with_n_ubatch(BATCH_TOKENS)
        .with_swa_full(true)
        .with_type_k(KvCacheType::F32)
        .with_type_v(KvCacheType::F32)
        .with_flash_attention_policy(llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED)
        .with_n_threads(threads)
        .with_n_threads_batch(threads);
    let context = model
        .new_context(backend()?, params)
        .map_err(|error| LoadError::Context {
            slots: 1,
            context_tokens: context_tokens.get(),
            error: error.to_string(),
        })?;
    Ok(work(&mut Truth { context }))
}

/// A model that is given its tokens.
#[derive(Debug)]
pub struct Truth<'m> {
    context: LlamaContext<'m>,
}

impl Truth<'_> {
    /// Gives `visit` a row of logits for each of these tokens, in their order; each sees those before it. Ends early
    /// where `visit` wants no more.
    pub fn logits(
        &mut self,
        tokens: &[u32],
        mut visit: impl FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), TruthError> {
        self.context.clear_kv_cache();
        let length = usize::try_from(BATCH_TOKENS).unwrap_or(usize::MAX);
        let mut place = 0;
        for tokens in tokens.chunks(length) {
            let mut batch = LlamaBatch::new(length, 1);
            for token in tokens {
                let id = i32::try_from(*token).unwrap_or(i32::MAX);
                if !slot::add(&mut batch, LlamaToken::new(id), place, 0, true) {
                    return Err(TruthError("the batch is full".to_owned()));
                }
                place += 1;
            }
            self.context
                .decode(&mut batch)
                .map_err(|error| TruthError(error.to_string()))?;
            for row in 0..batch.n_tokens() {
                if visit(self.context.get_logits_ith(row)).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
