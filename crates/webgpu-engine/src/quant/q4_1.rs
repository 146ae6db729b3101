//! `Q4_1` (`block_q4_1`): a scale `d` and a minimum `m` of 16 bits, then 32 numbers `q` of 4 bits. A weight is
//! `d · q + m`.

use super::nibbles::{self, WEIGHTS};
use super::{Quant, QuantType};

pub(super) const QUANT: Quant = Quant {
    kind: QuantType::Q4_1,
    name: "Q4_1",
    ggml_id: 3,
    block_weights: WEIGHTS,
    block_bytes: 20,
    decode,
    encode,
};

fn decode(block: &[u8], weights: &mut [f32]) {
    let (scale, rest) = nibbles::take_half(block);
    let (minimum, numbers) = nibbles::take_half(rest);
    nibbles::unpack(numbers, 0, weights, |number| scale * number + minimum);
}

/// As ggml does it: from the smallest weight to the largest.
fn encode(weights: &[f32], block: &mut [u8]) {
    let (least, most) = nibbles::extremes(weights);
    let scale = (most - least) / 15.0;
    let inverse = nibbles::inverse(scale);
    let numbers = weights
        .iter()
        .map(|weight| nibbles::natural((weight - least) * inverse + 0.5, 15));
    let rest = nibbles::put_half(scale, block);
    nibbles::pack(numbers, nibbles::put_half(least, rest));
}
