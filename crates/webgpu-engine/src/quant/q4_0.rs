//! `Q4_0` (`block_q4_0`): a scale `d` of 16 bits, then 32 numbers `q` of 4 bits. A weight is `d · (q - 8)`.

use super::nibbles::{self, WEIGHTS};
use super::{Quant, QuantType};

pub(super) const QUANT: Quant = Quant {
    kind: QuantType::Q4_0,
    name: "Q4_0",
    ggml_id: 2,
    block_weights: WEIGHTS,
    block_bytes: 18,
    decode,
    encode,
};

fn decode(block: &[u8], weights: &mut [f32]) {
    let (scale, numbers) = nibbles::take_half(block);
    nibbles::unpack(numbers, 0, weights, |number| scale * (number - 8.0));
}

/// As ggml does it: the weight that is farthest from zero becomes -8.
fn encode(weights: &[f32], block: &mut [u8]) {
    let scale = nibbles::farthest(weights) / -8.0;
    let inverse = nibbles::inverse(scale);
    let numbers = weights
        .iter()
        .map(|weight| nibbles::natural(weight * inverse + 8.5, 15));
    nibbles::pack(numbers, nibbles::put_half(scale, block));
}
