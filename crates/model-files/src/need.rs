//! How much memory a model needs: weights + keys and values + scratch. The sum is documented in `docs/rig.md`.
//!
//! ```text
//! keys and values = layers × KV heads × (key size + value size) × bytes × tokens      (2 × … × head size where equal)
//! scratch         = batch × (4 × vocabulary + 2 × tokens + 20 × embedding) + 4 × sequences × vocabulary
//! ```
//!
//! The scratch is what llama.cpp's compute buffer holds at its widest, with flash attention: the logits of a whole batch
//! (f32), a mask over all cells of the cache (f16), and about five activations (f32). In layers with a window, the cache
//! and the mask are only as long as the windows of all sequences and one batch.

use catalog::Shape;

/// llama.cpp rounds the length of a cache up to this many tokens.
const CELLS_STEP: u64 = 256;

/// The compute buffer of a picture encoder, which depends on nothing that its file's size tells. The largest seen is
/// that of the `SigLIP` encoder of Gemma 3, of 1.1 GiB; smaller models have smaller encoders, and their files tell that.
const PICTURE_SCRATCH_MAX: u64 = 1_200 << 20;

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
}

/// What a model needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The file, a picture encoder's file included.
    pub weights: u64,
    /// Keys and values.
    pub cache: u64,
    /// What computing needs beside.
    pub scratch: u64,
}

impl Need {
    /// All of it.
    pub const fn total(self) -> u64 {
        self.weights
            .saturating_add(self.cache)
            .saturating_add(self.scratch)
    }
}

/// Reckons what a model with these dimensions, weights and picture encoder (bytes; 0 for none) needs.
pub fn need(shape: &Shape, weights: u64, projector: u64, how: &Use) -> Need {
    let up = |tokens: u64| tokens.div_ceil(CELLS_STEP).saturating_mul(CELLS_STEP);
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
    let [heads, embedding, vocabulary] =
        [shape.kv_heads, shape.embedding, shape.vocabulary].map(u64::from);
    let per_cell = heads
        .saturating_mul(u64::from(shape.key_size).saturating_add(u64::from(shape.value_size)))
        .saturating_mul(u64::from(how.block_bytes))
        / 32;
    let layer_cells = u64::from(shape.layers.saturating_sub(window_layers))
        .saturating_mul(cells)
        .saturating_add(u64::from(window_layers).saturating_mul(window_cells));
    let per_token = (4 * vocabulary)
        .saturating_add(cells.saturating_mul(2))
        .saturating_add(window_cells.saturating_mul(2))
        .saturating_add(20 * embedding);
    let picture_scratch = projector.saturating_mul(2).min(PICTURE_SCRATCH_MAX);
    Need {
        weights: weights.saturating_add(projector),
        cache: per_cell.saturating_mul(layer_cells),
        scratch: batch
            .saturating_mul(per_token)
            .saturating_add((4 * vocabulary).saturating_mul(sequences))
            .saturating_add(picture_scratch),
    }
}

#[cfg(test)]
mod tests {
    use catalog::{Catalog, Shape, Window};

    use super::*;

    const SMOLLM2: Shape = Shape {
        layers: 30,
        kv_heads: 3,
        key_size: 64,
        value_size: 64,
        embedding: 576,
        vocabulary: 49_152,
        window: None,
    };

    const fn two_slots() -> Use {
        Use {
            context_tokens: 8192,
            slots: 2,
            sequences: 2,
            batch_tokens: 512,
            block_bytes: 64,
            is_window_full: false,
        }
    }

    #[test]
    fn the_sum_is_the_documented_one() {
        let need = need(&SMOLLM2, 98_362_432, 0, &two_slots());
        // llama.cpp says: KV buffer 360.00 MiB, compute buffer 117.64 MiB, output buffer 0.38 MiB.
        assert_eq!(need.cache, 360 << 20);
        let said = 117.64 + 0.38;
        let scratch = f64::from(u32::try_from(need.scratch >> 10).unwrap()) / 1024.0;
        assert!((scratch / said - 1.0).abs() < 0.01, "{scratch} MiB");
        assert_eq!(need.total(), need.weights + need.cache + need.scratch);
    }

    #[test]
    fn layers_with_a_window_keep_the_windows_of_all_sequences_and_a_batch() {
        let window = Window {
            tokens: 512,
            layers: 20,
        };
        let shape = Shape {
            window: Some(window),
            ..SMOLLM2
        };
        let small = need(&shape, 0, 0, &two_slots());
        // 10 layers with 16384 cells, 20 with 2 x 512 + 512.
        assert_eq!(small.cache, 3 * 128 * 2 * (10 * 16_384 + 20 * 1536));
        let full = Use {
            is_window_full: true,
            ..two_slots()
        };
        assert_eq!(need(&shape, 0, 0, &full).cache, 360 << 20);
        let short = Use {
            context_tokens: 256,
            ..two_slots()
        };
        assert_eq!(
            need(&shape, 0, 0, &short).cache,
            need(&SMOLLM2, 0, 0, &short).cache
        );
    }

    #[test]
    fn the_catalog_states_what_the_sum_gives_for_one_slot() {
        let catalog = Catalog::parse(include_str!("../../../catalog.toml")).unwrap();
        for model in catalog.models() {
            let how = Use {
                context_tokens: model.context_tokens,
                slots: 1,
                sequences: 1,
                ..two_slots()
            };
            let bytes = |file: Option<&catalog::File>| file.map_or(0, |file| file.bytes);
            let need = need(
                &model.shape.unwrap(),
                bytes(model.weights()),
                bytes(model.projector()),
                &how,
            );
            let stated = model.vram_bytes.unwrap();
            let difference = stated.abs_diff(need.total());
            assert!(
                difference < stated / 100,
                "{}: states {stated}, the sum is {}",
                model.id,
                need.total()
            );
        }
    }

    #[test]
    fn numbers_beyond_every_machine_do_not_wrap() {
        let shape = Shape {
            layers: u32::MAX,
            kv_heads: u32::MAX,
            key_size: u32::MAX,
            value_size: u32::MAX,
            embedding: u32::MAX,
            vocabulary: u32::MAX,
            window: None,
        };
        let how = Use {
            context_tokens: u32::MAX,
            slots: u32::MAX,
            sequences: u32::MAX,
            batch_tokens: u32::MAX,
            block_bytes: 128,
            is_window_full: true,
        };
        assert_eq!(need(&shape, u64::MAX, 1, &how).total(), u64::MAX);
    }
}
