//! The sum for models and machines that are not here.

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

fn two_slots() -> Use {
    Use {
        context_tokens: 8192,
        slots: 2,
        sequences: 2,
        batch_tokens: 512,
        block_bytes: 64,
        is_window_full: false,
        vectors: None,
        kept: Kept::default(),
    }
}

const fn file(bytes: u64) -> Weights {
    Weights {
        file: bytes,
        reordered: 0,
        reordered_max: 0,
        projector: 0,
        encoder: None,
    }
}

#[test]
fn the_sum_is_the_documented_one() {
    let need = need(&SMOLLM2, file(98_362_432), &two_slots());
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
    let small = need(&shape, file(0), &two_slots());
    // 10 layers with 16384 cells, 20 with 2 x 512 + 512.
    assert_eq!(small.cache, 3 * 128 * 2 * (10 * 16_384 + 20 * 1536));
    let full = Use {
        is_window_full: true,
        ..two_slots()
    };
    assert_eq!(need(&shape, file(0), &full).cache, 360 << 20);
    let short = Use {
        context_tokens: 256,
        ..two_slots()
    };
    assert_eq!(
        need(&shape, file(0), &short).cache,
        need(&SMOLLM2, file(0), &short).cache
    );
}

#[test]
fn the_catalog_states_what_the_sum_gives_for_one_slot() {
    let catalog = Catalog::parse(include_str!("../../../../catalog.toml")).unwrap();
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
            Weights {
                projector: bytes(model.projector()),
                ..file(bytes(model.weights()))
            },
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
        vectors: Some(Vectors {
            batch_tokens: u32::MAX,
            is_alone: false,
            is_encoder: false,
        }),
        kept: Kept {
            checkpoints: u32::MAX,
            checkpoint_bytes_max: u64::MAX,
            has_states: true,
            picture_bytes_max: u64::MAX,
        },
    };
    let weights = Weights {
        file: u64::MAX,
        reordered: u64::MAX,
        reordered_max: u64::MAX,
        projector: u64::MAX,
        encoder: Some(Encoder {
            image_side: u64::MAX,
            patch_side: 1,
            width: u64::MAX,
            feed_forward: u64::MAX,
            projection: u64::MAX,
        }),
    };
    let need = need(&shape, weights, &how);
    assert_eq!((need.total(), need.later_max()), (u64::MAX, u64::MAX));
}

#[test]
fn weights_in_a_second_order_count_and_those_that_nobody_knows_yet_stand_beside() {
    let plain = need(&SMOLLM2, file(98_362_432), &two_slots());
    let weights = Weights {
        reordered: 66_355_200,
        reordered_max: 7,
        ..file(98_362_432)
    };
    let both = need(&SMOLLM2, weights, &two_slots());
    assert_eq!(both.total(), plain.total() + 66_355_200);
    assert_eq!((plain.later_max(), both.later_max()), (0, 7));
}

#[test]
fn a_context_for_vectors_counts_beside_or_alone() {
    let vectors = |is_alone, is_encoder| Use {
        vectors: Some(Vectors {
            batch_tokens: 2048,
            is_alone,
            is_encoder,
        }),
        ..two_slots()
    };
    let without = need(&SMOLLM2, file(1), &two_slots());
    let beside = need(&SMOLLM2, file(1), &vectors(false, false));
    // Keys and values of 2048 tokens; for each, logits twice, a mask, activations and a vector.
    let per_token = 2 * 4 * 49_152 + 2 * 2048 + 24 * 576;
    let sum = (30 * 3 * 128 * 2 + per_token) * 2048;
    assert_eq!(beside.vectors, sum);
    assert_eq!(beside.total(), without.total() + sum);
    assert_eq!(
        need(&SMOLLM2, file(1), &vectors(true, false)).total(),
        1 + sum
    );
    let encoder = need(&SMOLLM2, file(1), &vectors(true, true));
    assert_eq!(encoder.total(), 1 + (per_token - 4 * 49_152) * 2048);
}

#[test]
fn checkpoints_are_kept_by_models_that_cannot_be_cut_up_to_a_limit() {
    let kept = Kept {
        checkpoints: 4,
        checkpoint_bytes_max: 1 << 30,
        ..Kept::default()
    };
    let how = Use {
        kept,
        sequences: 6,
        ..two_slots()
    };
    let shape = Shape {
        window: Some(Window {
            tokens: 512,
            layers: 20,
        }),
        ..SMOLLM2
    };
    let kept_max = |shape: &Shape, how: &Use| need(shape, file(1), how).kept_max;
    assert_eq!(kept_max(&SMOLLM2, &how), 0);
    assert_eq!(kept_max(&shape, &how), 3 * 128 * 2 * 20 * 512 * 4 * 6);
    let many = Use {
        sequences: 256,
        ..how
    };
    assert_eq!(kept_max(&shape, &many), 1 << 30);
    assert_eq!(kept_max(&shape, &two_slots()), 0);
    let with_states = Use {
        kept: Kept {
            has_states: true,
            ..kept
        },
        ..how
    };
    assert_eq!(kept_max(&SMOLLM2, &with_states), 1 << 30);
}

#[test]
fn pictures_that_were_seen_are_kept_where_there_is_an_encoder() {
    let how = Use {
        kept: Kept {
            picture_bytes_max: 5,
            ..Kept::default()
        },
        ..two_slots()
    };
    let seeing = Weights {
        projector: 3,
        ..file(1)
    };
    assert_eq!(need(&SMOLLM2, file(1), &how).kept_max, 0);
    let need = need(&SMOLLM2, seeing, &how);
    assert_eq!((need.kept_max, need.weights), (5, 4));
}

#[test]
fn an_encoder_of_known_shape_needs_what_its_patches_need_at_their_widest() {
    // Gemma 3's: 64 x 64 patches, in whose feed-forward part 1152 + 4304 numbers stand.
    let encoder = Encoder {
        image_side: 896,
        patch_side: 14,
        width: 1152,
        feed_forward: 4304,
        projection: 0,
    };
    let sum = 4 * (4096 * (1152 + 4304) + 3 * 896 * 896);
    assert_eq!(picture_scratch(&encoder), sum);
    let weights = |encoder| Weights {
        projector: 1 << 30,
        encoder,
        ..file(1)
    };
    let scratch = |encoder| need(&SMOLLM2, weights(encoder), &two_slots()).scratch;
    // What nobody knows is reckoned high.
    assert_eq!(scratch(None) - scratch(Some(encoder)), (1_200 << 20) - sum);
}
