//! `Q5_K` (`block_q5_K`): the groups' scales and minimums ([`super_block`]), 32 bytes with the fifth bits of all 256
//! numbers `q` (bit `g` of byte `i` belongs to number `i` of group `g`), then their lower 4 bits as in `Q4_K`. A weight
//! is `scale · q - minimum`.

use super::super_block::{self, GROUP, Group, WEIGHTS};
use super::{Quant, QuantType};

pub(super) const QUANT: Quant = Quant {
    kind: QuantType::Q5K,
    name: "Q5_K",
    ggml_id: 13,
    block_weights: WEIGHTS,
    block_bytes: 176,
    decode,
    encode,
};

fn decode(block: &[u8], weights: &mut [f32]) {
    let (groups, rest) = super_block::take_groups(block);
    let (fifths, numbers) = rest.split_at(GROUP);
    let weights = weights.chunks_exact_mut(GROUP);
    for (place, (group, weights)) in groups.iter().zip(weights).enumerate() {
        let Group { scale, minimum } = group;
        let shift = place % 2 * 4;
        let numbers = numbers.iter().skip(place / 2 * GROUP).zip(fifths);
        for (weight, (byte, fifth)) in weights.iter_mut().zip(numbers) {
            let number = ((byte >> shift) & 15) | (((fifth >> place) & 1) << 4);
            *weight = scale * f32::from(number) - minimum;
        }
    }
}

fn encode(weights: &[f32], block: &mut [u8]) {
    let (groups, rest) = super_block::put_groups(weights, 31.0, block);
    let (fifths, numbers) = rest.split_at_mut(GROUP);
    let weights = weights.chunks_exact(GROUP);
    for (place, (group, weights)) in groups.iter().zip(weights).enumerate() {
        let shift = place % 2 * 4;
        let bytes = numbers.iter_mut().skip(place / 2 * GROUP);
        let bytes = bytes.zip(fifths.iter_mut());
        for ((byte, fifth), number) in bytes.zip(super_block::numbers(*group, weights, 31)) {
            *byte |= (number & 15) << shift;
            *fifth |= (number >> 4) << place;
        }
    }
}
