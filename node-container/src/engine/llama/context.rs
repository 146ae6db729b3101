//! llama.cpp contexts: how large, how many threads, what kind of cache.

use std::num::NonZeroU32;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::model::LlamaModel;

use super::load::{CacheType, LlamaOptions, LoadError, backend, spares};
use crate::engine::tuning::{self, Tuned, Wanted};

/// Answers at once in the tuning run: from here on, more of them change little about what is fastest.
const ROWS_MAX: u32 = 8;

/// What a context is to be like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Sequences that its cache tells apart.
    pub(super) sequences: u32,
    /// Tokens in its cache, of all sequences together.
    pub(super) tokens: u32,
    /// Tokens of one batch.
    pub(super) batch_tokens: u32,
    pub(super) threads: u32,
    pub(super) cache_type: CacheType,
}

/// Makes a context with one cache for all sequences. The error is what llama.cpp says.
pub(super) fn new_context(model: &LlamaModel, shape: Shape) -> Result<LlamaContext<'_>, String> {
    let tokens = NonZeroU32::new(shape.tokens).ok_or("it would have no room")?;
    let threads = i32::try_from(shape.threads).unwrap_or(1);
    let cache_type = match shape.cache_type {
        CacheType::F16 => KvCacheType::F16,
        CacheType::Q8 => KvCacheType::Q8_0,
    };
    let params = LlamaContextParams::default()
        .with_n_ctx(Some(tokens))
        .with_n_seq_max(shape.sequences)
        // A model with a sliding window keeps no more than its windows; the prefix cache makes do with that.
        .with_swa_full(false)
        .with_kv_unified(true)
        .with_n_batch(shape.batch_tokens)
        .with_n_ubatch(shape.batch_tokens)
        .with_type_k(cache_type)
        .with_type_v(cache_type)
        .with_n_threads(threads)
        .with_n_threads_batch(threads);
    let backend = backend().map_err(|error| error.to_string())?;
    model
        .new_context(backend, params)
        .map_err(|error| error.to_string())
}

/// A context for `options`, whose threads and batches are tuned.
pub(super) fn engine_context<'m>(
    model: &'m LlamaModel,
    options: &LlamaOptions,
    context_tokens: u32,
    batch_tokens: u32,
    threads: u32,
) -> Result<LlamaContext<'m>, LoadError> {
    let failed = |error: String| LoadError::Context {
        slots: options.slots,
        context_tokens,
        error,
    };
    let tokens = context_tokens
        .checked_mul(options.slots)
        .ok_or_else(|| failed("that is no possible number of tokens".to_owned()))?;
    let shape = Shape {
        sequences: options.slots + spares(options),
        tokens,
        batch_tokens,
        threads,
        cache_type: options.cache_type,
    };
    new_context(model, shape).map_err(failed)
}

/// Finds out how the model computes fastest here.
pub(super) fn tune(model: &LlamaModel, options: &LlamaOptions, has_accelerator: bool) -> Tuned {
    let wanted = Wanted {
        threads: options.threads,
        prompt_batch: options.prompt_batch,
        rows: options.slots.min(ROWS_MAX),
        has_accelerator,
    };
    tuning::tune(&wanted, |threads| {
        let shape = Shape {
            sequences: wanted.rows,
            tokens: tuning::ROOM,
            batch_tokens: tuning::ROOM,
            threads,
            cache_type: options.cache_type,
        };
        // Without one there is no run; whoever makes the real one will tell why.
        new_context(model, shape).ok()
    })
}
