//! `Q5_1` (`block_q5_1`): a scale `d` and a minimum `m` of 16 bits, 32 fifth bits, then the lower 4 bits of 32 numbers
//! `q`. A weight is `d · q + m`.

use super::nibbles::{self, WEIGHTS};
use super::{Quant, QuantType};

pub(super) const QUANT: Quant = Quant {
    kind: QuantType::Q5_1,
    name: "Q5_1",
    ggml_id: 7,
    block_weights: WEIGHTS,
    block_bytes: 24,
    decode,
    encode,
};

fn decode(block: &[u8], weights: &mut [f32]) {
    let (scale, rest) = nibbles::take_half(block);
    let (minimum, rest) = nibbles::take_half(rest);
    let (fifths, numbers) = nibbles::take_fifths(rest);
    nibbles::unpack(numbers, fifths, weights, |number| scale * number + minimum);
}

/// As ggml does it: from the smallest weight to the largest.
fn encode(weights: &[f32], block: &mut [u8]) {
    let (least, most) = nibbles::extremes(weights);
    let scale = (most - least) / 31.0;
    let inverse = nibbles::inverse(scale);
    let numbers = weights
        .iter()
        .map(|weight| nibbles::natural((weight - least) * inverse + 0.5, 31));
    let rest = nibbles::put_half(least, nibbles::put_half(scale, block));
    let (bits, rest) = rest.split_at_mut(4);
    bits.copy_from_slice(&nibbles::pack(numbers, rest).to_le_bytes());
}
