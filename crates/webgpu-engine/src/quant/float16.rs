//! `F16`: floats of 16 bits (IEEE 754 binary16).

use super::{Quant, QuantType, half_from_float, half_to_float};

pub(super) const QUANT: Quant = Quant {
    kind: QuantType::F16,
    name: "F16",
    ggml_id: 1,
    block_weights: 1,
    block_bytes: 2,
    decode,
    encode,
};

fn decode(block: &[u8], weights: &mut [f32]) {
    if let (Ok(bytes), [weight]) = (block.try_into(), weights) {
        *weight = half_to_float(u16::from_le_bytes(bytes));
    }
}

fn encode(weights: &[f32], block: &mut [u8]) {
    if let [weight] = weights {
        block.copy_from_slice(&half_from_float(*weight).to_le_bytes());
    }
}
