//! `BF16`: the upper half of 32-bit floats.

use super::{Quant, QuantType};

pub(super) const QUANT: Quant = Quant {
    kind: QuantType::BF16,
    name: "BF16",
    ggml_id: 30,
    block_weights: 1,
    block_bytes: 2,
    decode,
    encode,
};

fn decode(block: &[u8], weights: &mut [f32]) {
    if let (Ok(bytes), [weight]) = (block.try_into(), weights) {
        *weight = f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16);
    }
}

/// The nearest, the even one of two (`ggml_compute_fp32_to_bf16`); what is no number stays none.
fn encode(weights: &[f32], block: &mut [u8]) {
    if let [weight] = weights {
        let bits = weight.to_bits();
        let rounded = if weight.is_nan() {
            bits | 0x40_0000
        } else {
            bits + 0x7fff + ((bits >> 16) & 1)
        };
        let [_, _, upper @ ..] = rounded.to_le_bytes();
        block.copy_from_slice(&upper);
    }
}
