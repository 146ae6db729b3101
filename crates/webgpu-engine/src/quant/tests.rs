//! Every type against llama.cpp's own Python package, on stored blocks: `fixtures/quant/generate.py`.

use super::*;
use proptest::prelude::*;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../fixtures/quant/", $name, ".bin")).as_slice()
    };
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let pieces = bytes.chunks_exact(4);
    pieces
        .map(|piece| f32::from_le_bytes(piece.try_into().expect("four")))
        .collect()
}

fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|float| float.to_bits()).collect()
}

#[test]
fn blocks_mean_bit_by_bit_what_ggml_makes_of_them() {
    let fixtures = [
        (QuantType::F32, fixture!("f32.decode")),
        (QuantType::F16, fixture!("f16.decode")),
        (QuantType::BF16, fixture!("bf16.decode")),
        (QuantType::Q4_0, fixture!("q4_0.decode")),
        (QuantType::Q4_1, fixture!("q4_1.decode")),
        (QuantType::Q5_0, fixture!("q5_0.decode")),
        (QuantType::Q5_1, fixture!("q5_1.decode")),
        (QuantType::Q8_0, fixture!("q8_0.decode")),
        (QuantType::Q4K, fixture!("q4_k.decode")),
        (QuantType::Q5K, fixture!("q5_k.decode")),
        (QuantType::Q6K, fixture!("q6_k.decode")),
    ];
    assert_eq!(fixtures.map(|(kind, _)| kind), QuantType::ALL);
    for (kind, bytes) in fixtures {
        let quant = kind.quant();
        let blocks = bytes.len() / (quant.block_bytes + quant.block_weights * 4);
        assert!(blocks >= 4, "{kind:?}");
        let (blocks, expected) = bytes.split_at(blocks * quant.block_bytes);
        let expected = floats(expected);
        let mut weights = vec![0.0; expected.len()];
        kind.decode(blocks, &mut weights).expect("whole blocks");
        assert_eq!(bits(&weights), bits(&expected), "{kind:?}");
    }
}

#[test]
fn weights_become_the_blocks_that_ggml_makes_of_them() {
    let fixtures = [
        (QuantType::F16, fixture!("f16.encode")),
        (QuantType::BF16, fixture!("bf16.encode")),
        (QuantType::Q4_0, fixture!("q4_0.encode")),
        (QuantType::Q4_1, fixture!("q4_1.encode")),
        (QuantType::Q5_0, fixture!("q5_0.encode")),
        (QuantType::Q5_1, fixture!("q5_1.encode")),
        (QuantType::Q8_0, fixture!("q8_0.encode")),
    ];
    for (kind, bytes) in fixtures {
        let (weights, expected) = bytes.split_at(512 * 4);
        let blocks = kind.encode(&floats(weights)).expect("whole blocks");
        assert_eq!(blocks, expected, "{kind:?}");
    }
}

#[test]
fn the_table_agrees_with_the_index_s() {
    for kind in QuantType::ALL {
        let quant = kind.quant();
        assert_eq!(quant.kind, kind);
        let indexed = TensorType::from_id(quant.ggml_id).expect("is known");
        assert_eq!(QuantType::of(indexed), Some(kind));
        assert_eq!(indexed.name, quant.name);
        assert_eq!(indexed.block_weights, quant.block_weights as u64);
        assert_eq!(indexed.block_bytes, quant.block_bytes as u64);
    }
    let other = TensorType::from_id(10).expect("Q2_K");
    assert_eq!(QuantType::of(other), None);
}

#[test]
fn parts_of_blocks_are_refused() {
    let mut weights = [0.0; 32];
    let kind = QuantType::Q4_0;
    assert!(kind.decode(&[0; 18], &mut weights).is_ok());
    assert!(kind.decode(&[0; 17], &mut weights).is_err());
    assert!(kind.decode(&[0; 36], &mut weights).is_err());
    let error = kind.encode(&[0.0; 33]).expect_err("is refused");
    let sentence = "0 bytes and 33 weights are not the same number of whole Q4_0 blocks";
    assert_eq!(error.to_string(), sentence);
    assert_eq!((kind.bytes(64), kind.bytes(65)), (Some(36), None));
}

/// How far a weight may move, in parts of the distance between the smallest and the largest of the block, zero included:
/// half a step of the type's numbers, and a little for scales that are stored in few bits.
const fn tolerance(kind: QuantType) -> f32 {
    match kind {
        QuantType::F32 => 0.0,
        QuantType::F16 => 0.0005,
        QuantType::BF16 => 0.004,
        // The end that is not the farthest can be half a step beyond the last number.
        QuantType::Q4_0 => 1.0 / 15.0,
        QuantType::Q4_1 => 0.6 / 15.0,
        QuantType::Q5_0 => 1.0 / 31.0,
        QuantType::Q5_1 => 0.6 / 31.0,
        QuantType::Q8_0 => 0.6 / 127.0,
        QuantType::Q4K => 0.8 / 15.0,
        QuantType::Q5K => 1.1 / 31.0,
        QuantType::Q6K => 1.3 / 63.0,
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_again(
        seed in prop::collection::vec(-1.0f32..1.0, 512),
        scale in prop::sample::select(vec![0.0f32, 1.0, 50.0]),
        shift in -1.0f32..1.0,
    ) {
        let weights: Vec<f32> = seed.iter().map(|weight| (weight + shift) * scale).collect();
        for kind in QuantType::ALL {
            let blocks = kind.encode(&weights).expect("whole blocks");
            let mut decoded = vec![0.0; weights.len()];
            kind.decode(&blocks, &mut decoded).expect("whole blocks");
            let least = weights.iter().fold(0.0f32, |least, weight| least.min(*weight));
            let most = weights.iter().fold(0.0f32, |most, weight| most.max(*weight));
            for (before, after) in weights.iter().zip(&decoded) {
                let moved = (before - after).abs();
                prop_assert!(
                    moved <= tolerance(kind) * (most - least) + 1e-6,
                    "{kind:?}: {before} became {after}, of {least}..{most}"
                );
            }
        }
    }

    #[test]
    fn any_bytes_are_decoded(bytes in prop::collection::vec(any::<u8>(), 256)) {
        for kind in QuantType::ALL {
            let quant = kind.quant();
            let mut weights = vec![0.0; quant.block_weights];
            prop_assert!(kind.decode(&bytes[..quant.block_bytes], &mut weights).is_ok());
        }
    }
}
