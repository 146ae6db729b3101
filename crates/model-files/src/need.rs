//! How much memory a model needs: weights + keys and values + scratch, and what stands beside. The sum is documented in
//! `docs/rig.md`.
//!
//! ```text
//! weights         = file + picture encoder + what of the file is kept a second time, in another order
//! keys and values = layers × KV heads × (key size + value size) × bytes × tokens      (2 × … × head size where equal)
//! scratch         = batch × (4 × vocabulary + 2 × tokens + 20 × embedding) + 4 × sequences × vocabulary
//! vectors         = keys and values and scratch of a second context, which makes vectors of texts
//! ```
//!
//! The scratch is what llama.cpp's compute buffer holds at its widest, with flash attention: the logits of a whole batch
//! (f32), a mask over all cells of the cache (f16), and about five activations (f32). In layers with a window, the cache
//! and the mask are only as long as the windows of all sequences and one batch.
//!
//! What is kept beside, up to a limit, is not in the sum: it is there after hours of work, or never ([`Need::later_max`]).

use catalog::Shape;

use crate::header::Encoder;

/// llama.cpp rounds the length of a cache up to this many tokens.
const CELLS_STEP: u64 = 256;

/// The compute buffer of a picture encoder whose shape nobody knows, or on a graphics card that may lack flash attention
/// for it. The largest seen is that of the `SigLIP` encoder of Gemma 3 without flash attention, of 1.1 GiB; smaller
/// models have smaller encoders, and their files tell that.
const PICTURE_SCRATCH_MAX: u64 = 1_200 << 20;

/// Bytes of 32 numbers of 16 bits: what a context for vectors holds.
const F16_BLOCK_BYTES: u32 = 64;

/// What is loaded, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weights {
    /// The model's file.
    pub file: u64,
    /// Those of its weights that the processor keeps a second time, in an order that suits it: only who computes knows
    /// which. 0 on graphics cards.
    pub reordered: u64,
    /// As long as the file is not there, nobody knows how much it is; not more than this. 0 once it is known.
    pub reordered_max: u64,
    /// The picture encoder's file; 0 for none.
    pub projector: u64,
    /// Its shape, where it is known and the processor computes, which has flash attention for every shape.
    pub encoder: Option<Encoder>,
}

/// How a model is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// Tokens of prompt and answer together, for each slot.
    pub context_tokens: u32,
    /// Jobs at once.
    pub slots: u32,
    /// Sequences that the cache may hold: the slots, and what finished conversations left.
    pub sequences: u32,
    /// Tokens computed at once.
    pub batch_tokens: u32,
    /// Bytes of 32 numbers in the cache: 64 for f16, 34 for `q8_0`.
    pub block_bytes: u32,
    /// Whether layers with a window keep everything all the same.
    pub is_window_full: bool,
    /// How vectors of texts are made, where they are.
    pub vectors: Option<Vectors>,
    /// What is kept of finished work.
    pub kept: Kept,
}

/// A context that makes vectors of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vectors {
    /// Tokens computed at once, which is its whole length.
    pub batch_tokens: u32,
    /// Whether the model does nothing else: then there is no context for answers.
    pub is_alone: bool,
    /// Whether every token sees all others, as in BERT: then nothing is kept of keys and values, and no token follows.
    pub is_encoder: bool,
}

/// Limits of what is kept of finished work, in main memory. All 0 where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// States of one sequence that are saved, for models whose caches cannot be cut anywhere.
    pub checkpoints: u32,
    /// Bytes of all of them.
    pub checkpoint_bytes_max: u64,
    /// Whether the model has states of its own without parts (recurrent and hybrid ones), whose size its shape does not
    /// tell.
    pub has_states: bool,
    /// What was seen in pictures, in bytes.
    pub picture_bytes_max: u64,
}

/// What a model needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The file, a picture encoder's file included.
    pub weights: u64,
    /// Weights that are kept a second time, in another order.
    pub reordered: u64,
    /// Keys and values.
    pub cache: u64,
    /// What computing needs beside.
    pub scratch: u64,
    /// The context that makes vectors of texts.
    pub vectors: u64,
    /// Not in the sum: checkpoints and pictures that may come to be kept in main memory, at most.
    pub kept_max: u64,
    /// Not in the sum: weights that are perhaps kept a second time, at most; see [`Weights::reordered_max`].
    pub reordered_max: u64,
}

impl Need {
    /// All of it.
    pub const fn total(self) -> u64 {
        self.weights
            .saturating_add(self.reordered)
            .saturating_add(self.cache)
            .saturating_add(self.scratch)
            .saturating_add(self.vectors)
    }

    /// What may come to it in main memory, at most.
    pub const fn later_max(self) -> u64 {
        self.kept_max.saturating_add(self.reordered_max)
    }
}

/// Reckons what a model with these dimensions and weights needs.
pub fn need(shape: &Shape, weights: Weights, how: &Use) -> Need {
    let is_answering = how.vectors.is_none_or(|vectors| !vectors.is_alone);
    let (cache, scratch) = if is_answering {
        answers(shape, how)
    } else {
        (0, 0)
    };
    let pictures = weights.encoder.map_or_else(
        || weights.projector.saturating_mul(2).min(PICTURE_SCRATCH_MAX),
        |encoder| picture_scratch(&encoder),
    );
    Need {
        weights: weights.file.saturating_add(weights.projector),
        reordered: weights.reordered,
        cache,
        scratch: scratch.saturating_add(pictures),
        vectors: how
            .vectors
            .map_or(0, |how| vectors(shape, how.batch_tokens, how.is_encoder)),
        kept_max: kept_max(shape, weights, how),
        reordered_max: weights.reordered_max,
    }
}

const fn up(tokens: u64) -> u64 {
    tokens.div_ceil(CELLS_STEP).saturating_mul(CELLS_STEP)
}

/// Bytes of one token's keys and values in one layer.
fn cell_bytes(shape: &Shape, block_bytes: u32) -> u64 {
    u64::from(shape.kv_heads)
        .saturating_mul(u64::from(shape.key_size).saturating_add(u64::from(shape.value_size)))
        .saturating_mul(u64::from(block_bytes))
        / 32
}

/// What one token of a batch needs while it is computed, but for its logits: masks over so many cells, activations.
fn token_bytes(shape: &Shape, mask_cells: u64) -> u64 {
    mask_cells
        .saturating_mul(2)
        .saturating_add(20 * u64::from(shape.embedding))
}

/// Cache and scratch of the context that answers.
fn answers(shape: &Shape, how: &Use) -> (u64, u64) {
    let [batch, sequences] = [how.batch_tokens, how.sequences].map(u64::from);
    let cells = up(u64::from(how.context_tokens).saturating_mul(u64::from(how.slots)));
    let (window_layers, window_cells) = match shape.window {
        Some(window) if how.is_window_full => (window.layers, cells),
        Some(window) => {
            let tokens = u64::from(window.tokens)
                .saturating_mul(sequences)
                .saturating_add(batch);
            (window.layers, up(tokens).min(cells))
        }
        None => (0, 0),
    };
    let layer_cells = u64::from(shape.layers.saturating_sub(window_layers))
        .saturating_mul(cells)
        .saturating_add(u64::from(window_layers).saturating_mul(window_cells));
    let logits = 4 * u64::from(shape.vocabulary);
    let per_token = token_bytes(shape, cells.saturating_add(window_cells)).saturating_add(logits);
    let cache = cell_bytes(shape, how.block_bytes).saturating_mul(layer_cells);
    let scratch = batch
        .saturating_mul(per_token)
        .saturating_add(logits.saturating_mul(sequences));
    (cache, scratch)
}

/// The context that makes vectors: its windows are full, and it keeps a row of logits and a vector for every token.
fn vectors(shape: &Shape, batch_tokens: u32, is_encoder: bool) -> u64 {
    let batch = u64::from(batch_tokens);
    let cells = up(batch);
    let logits = 4 * u64::from(shape.vocabulary);
    let masks = if shape.window.is_some() { 2 } else { 1 };
    let mut per_token = token_bytes(shape, cells.saturating_mul(masks))
        .saturating_add(logits)
        .saturating_add(4 * u64::from(shape.embedding));
    let mut cache = 0;
    if !is_encoder {
        // Its logits are computed as well, though nobody asks for them.
        per_token = per_token.saturating_add(logits);
        cache = cell_bytes(shape, F16_BLOCK_BYTES)
            .saturating_mul(u64::from(shape.layers))
            .saturating_mul(cells);
    }
    batch.saturating_mul(per_token).saturating_add(cache)
}

/// A picture encoder's compute buffer, with flash attention: the picture, and what its patches need at their widest
/// (all f32), which is where they are cut out, in attention (the residual, queries, keys and values), in the feed-forward
/// part, or where they become tokens of the language model.
pub fn picture_scratch(encoder: &Encoder) -> u64 {
    let Encoder {
        image_side,
        patch_side,
        width,
        feed_forward,
        projection,
    } = *encoder;
    let square = |side: u64| side.saturating_mul(side);
    let cut_out = square(patch_side).saturating_mul(3).saturating_add(width);
    let widest = cut_out
        .max(width.saturating_mul(4))
        .max(width.saturating_add(feed_forward))
        .max(projection.saturating_mul(2));
    square(image_side / patch_side.max(1))
        .saturating_mul(widest)
        .saturating_add(square(image_side).saturating_mul(3))
        .saturating_mul(4)
}

/// Checkpoints, which models need whose caches cannot be cut, and pictures.
fn kept_max(shape: &Shape, weights: Weights, how: &Use) -> u64 {
    let Kept {
        checkpoints,
        checkpoint_bytes_max,
        has_states,
        picture_bytes_max,
    } = how.kept;
    let windows = shape.window.filter(|_| !how.is_window_full).map(|window| {
        cell_bytes(shape, how.block_bytes)
            .saturating_mul(u64::from(window.layers))
            .saturating_mul(u64::from(window.tokens.min(how.context_tokens)))
            .saturating_mul(u64::from(checkpoints))
            .saturating_mul(u64::from(how.sequences))
            .min(checkpoint_bytes_max)
    });
    let states = if has_states {
        checkpoint_bytes_max
    } else {
        windows.unwrap_or(0)
    };
    let pictures = if weights.projector > 0 {
        picture_bytes_max
    } else {
        0
    };
    states.saturating_add(pictures)
}

#[cfg(test)]
mod tests;
