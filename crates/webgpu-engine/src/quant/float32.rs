//! `F32`: weights as they are computed with.

use super::{Quant, QuantType};

pub(super) const QUANT: Quant = Quant {
    kind: QuantType::F32,
    name: "F32",
    ggml_id: 0,
    block_weights: 1,
    block_bytes: 4,
    decode,
    encode,
};

fn decode(block: &[u8], weights: &mut [f32]) {
    if let (Ok(bytes), [weight]) = (block.try_into(), weights) {
        *weight = f32::from_le_bytes(bytes);
    }
}

fn encode(weights: &[f32], block: &mut [u8]) {
    if let [weight] = weights {
        block.copy_from_slice(&weight.to_le_bytes());
    }
}
