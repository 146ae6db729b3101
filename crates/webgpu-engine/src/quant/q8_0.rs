//! `Q8_0` (`block_q8_0`): a scale `d` of 16 bits, then 32 numbers `q` of 8 bits with a sign. A weight is `d · q`.

use super::nibbles::{self, WEIGHTS};
use super::{Quant, QuantType};

pub(super) const QUANT: Quant = Quant {
    kind: QuantType::Q8_0,
    name: "Q8_0",
    ggml_id: 8,
    block_weights: WEIGHTS,
    block_bytes: 34,
    decode,
    encode,
};

fn decode(block: &[u8], weights: &mut [f32]) {
    let (scale, numbers) = nibbles::take_half(block);
    for (weight, number) in weights.iter_mut().zip(numbers) {
        *weight = scale * f32::from(number.cast_signed());
    }
}

/// As ggml does it: the weight that is farthest from zero becomes 127 or -127.
fn encode(weights: &[f32], block: &mut [u8]) {
    let scale = nibbles::farthest(weights).abs() / 127.0;
    let inverse = nibbles::inverse(scale);
    let numbers = nibbles::put_half(scale, block);
    for (number, weight) in numbers.iter_mut().zip(weights) {
        *number = signed((weight * inverse).round()).cast_unsigned();
    }
}

/// From -128 to 127.
#[expect(
    clippy::cast_possible_truncation,
    reason = "such a conversion keeps within the type, and what is no number becomes 0"
)]
pub(super) const fn signed(value: f32) -> i8 {
    value as i8
}
