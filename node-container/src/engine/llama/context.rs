//! llama.cpp contexts: how large, how many threads, what kind of cache.

use std::num::NonZeroU32;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::model::LlamaModel;

use super::load::backend::backend;
use super::load::options::{CacheType, LlamaOptions, spares};
use super::load::outcome::LoadError;
use super::vectors::{Embedder, SEQUENCES};
use crate::engine::embed::Pooling;
use crate::engine::tuning::{self, Tuned, Wanted};

/// Tokens of a text that becomes a vector, where neither model nor operator says less: it is evaluated all at once.
const INPUT_TOKENS_MAX: u32 = 2048;

/// Tokens that are evaluated at once at least, so that short texts go together.
const EMBED_BATCH_TOKENS_MIN: u32 = 512;

/// llama.cpp keeps a row of logits for every token that becomes part of a vector, although nobody reads it.
const ROWS_BYTES_MAX: u64 = 512 << 20;

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

/// How many tokens a text may have that becomes a vector, and how many are evaluated at once.
pub(crate) fn vector_batch_tokens(asked: Option<u32>, trained: u32, vocabulary: u32) -> (u32, u32) {
    let row_bytes = u64::from(vocabulary.max(1)) * 4;
    let rows = u32::try_from(ROWS_BYTES_MAX / row_bytes).unwrap_or(u32::MAX);
    let input_tokens = asked
        .unwrap_or(INPUT_TOKENS_MAX)
        .min(INPUT_TOKENS_MAX)
        .min(trained)
        .min(rows);
    (input_tokens, input_tokens.max(EMBED_BATCH_TOKENS_MIN))
}

/// What makes vectors of texts, in a context of its own; and how many tokens a text may have.
pub(super) fn embedder<'m>(
    model: &'m LlamaModel,
    options: &LlamaOptions,
    pooling: Pooling,
    threads: u32,
) -> Result<(Embedder<'m>, u32), LoadError> {
    let vocabulary = u32::try_from(model.n_vocab()).unwrap_or(u32::MAX);
    let (input_tokens, batch_tokens) =
        vector_batch_tokens(options.context_tokens, model.n_ctx_train(), vocabulary);
    let failed = |error: String| LoadError::Context {
        slots: options.slots,
        context_tokens: input_tokens,
        error,
    };
    let tokens = NonZeroU32::new(batch_tokens);
    let threads = i32::try_from(threads).unwrap_or(1);
    let pooling = match pooling {
        Pooling::Mean => LlamaPoolingType::Mean,
        Pooling::Cls => LlamaPoolingType::Cls,
        Pooling::Last => LlamaPoolingType::Last,
    };
    let params = LlamaContextParams::default()
        .with_embeddings(true)
        .with_pooling_type(pooling)
        .with_n_ctx(tokens)
        .with_n_seq_max(SEQUENCES)
        .with_kv_unified(true)
        .with_n_batch(batch_tokens)
        .with_n_ubatch(batch_tokens)
        .with_n_threads(threads)
        .with_n_threads_batch(threads);
    let context = model
        .new_context(backend()?, params)
        .map_err(|error| failed(error.to_string()))?;
    let embedder = Embedder::new(model, context, input_tokens, options.slots);
    Ok((embedder, input_tokens))
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
