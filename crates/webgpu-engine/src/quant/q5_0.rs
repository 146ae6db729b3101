//! `Q5_0` (`block_q5_0`): a scale `d` of 16 bits, 32 fifth bits, then the lower 4 bits of 32 numbers `q`. A weight is
//! `d · (q - 16)`.

use super::nibbles::{self, WEIGHTS};
use super::{Quant, QuantType};

pub(super) const QUANT: Quant = Quant {
    kind: QuantType::Q5_0,
    name: "Q5_0",
    ggml_id: 6,
    block_weights: WEIGHTS,
    block_bytes: 22,
    decode,
    encode,
};

fn decode(block: &[u8], weights: &mut [f32]) {
    let (scale, rest) = nibbles::take_half(block);
    let (fifths, numbers) = nibbles::take_fifths(rest);
    nibbles::unpack(numbers, fifths, weights, |number| scale * (number - 16.0));
}

/// As ggml does it: the weight that is farthest from zero becomes -16.
fn encode(weights: &[f32], block: &mut [u8]) {
    let scale = nibbles::farthest(weights) / -16.0;
    let inverse = nibbles::inverse(scale);
    let numbers = weights
        .iter()
        .map(|weight| nibbles::natural(weight * inverse + 16.5, 31));
    let (bits, rest) = nibbles::put_half(scale, block).split_at_mut(4);
    bits.copy_from_slice(&nibbles::pack(numbers, rest).to_le_bytes());
}
