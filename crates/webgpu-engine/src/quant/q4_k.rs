//! `Q4_K` (`block_q4_K`): the groups' scales and minimums ([`super_block`]), then 256 numbers `q` of 4 bits; of 64
//! weights, the first group is in the lower halves of 32 bytes and the second in the upper ones. A weight is
//! `scale · q - minimum`.

use super::super_block::{self, GROUP, Group, WEIGHTS};
use super::{Quant, QuantType};

pub(super) const QUANT: Quant = Quant {
    kind: QuantType::Q4K,
    name: "Q4_K",
    ggml_id: 12,
    block_weights: WEIGHTS,
    block_bytes: 144,
    decode,
    encode,
};

fn decode(block: &[u8], weights: &mut [f32]) {
    let (groups, numbers) = super_block::take_groups(block);
    let weights = weights.chunks_exact_mut(GROUP);
    for (place, (group, weights)) in groups.iter().zip(weights).enumerate() {
        let Group { scale, minimum } = group;
        let shift = place % 2 * 4;
        let numbers = numbers.iter().skip(place / 2 * GROUP);
        for (weight, byte) in weights.iter_mut().zip(numbers) {
            *weight = scale * f32::from((byte >> shift) & 15) - minimum;
        }
    }
}

fn encode(weights: &[f32], block: &mut [u8]) {
    let (groups, numbers) = super_block::put_groups(weights, 15.0, block);
    let weights = weights.chunks_exact(GROUP);
    for (place, (group, weights)) in groups.iter().zip(weights).enumerate() {
        let shift = place % 2 * 4;
        let bytes = numbers.iter_mut().skip(place / 2 * GROUP);
        for (byte, number) in bytes.zip(super_block::numbers(*group, weights, 15)) {
            *byte |= number << shift;
        }
    }
}
