//! `Q6_K` (`block_q6_K`): the lower 4 bits of 256 numbers `q` (128 bytes), their upper 2 bits (64 bytes), sixteen scales
//! of 8 bits with a sign, and the scales' scale `d` of 16 bits. A weight is `d · scale · (q - 32)`.
//!
//! Each half of a block has 128 weights in four runs of 32. Byte `i` of the half's 64 has the lower bits of runs 0 and 2
//! (first 32 bytes) or 1 and 3; byte `i` of its 32 has the upper bits of all four runs.

use super::nibbles::{farthest, inverse, put_half, take_half};
use super::q8_0::signed;
use super::{Quant, QuantType, half_from_float, half_to_float};

const WEIGHTS: usize = 256;
/// Weights with a scale of their own.
const GROUP: usize = 16;
const RUN: usize = 32;

pub(super) const QUANT: Quant = Quant {
    kind: QuantType::Q6K,
    name: "Q6_K",
    ggml_id: 14,
    block_weights: WEIGHTS,
    block_bytes: 210,
    decode,
    encode,
};

fn decode(block: &[u8], weights: &mut [f32]) {
    let (lower, rest) = block.split_at(WEIGHTS / 2);
    let (upper, rest) = rest.split_at(WEIGHTS / 4);
    let (scales, half) = rest.split_at(WEIGHTS / GROUP);
    let (scale, _) = take_half(half);
    for (index, weight) in weights.iter_mut().enumerate() {
        let place = Place::of(index);
        let byte = |bytes: &[u8], index: usize| bytes.get(index).copied().unwrap_or(0);
        let low = (byte(lower, place.lower) >> place.lower_shift) & 15;
        let high = (byte(upper, place.upper) >> place.upper_shift) & 3;
        let number = f32::from(low | (high << 4)) - 32.0;
        let group = f32::from(byte(scales, index / GROUP).cast_signed());
        *weight = scale * group * number;
    }
}

/// Where the bits of a number are.
struct Place {
    lower: usize,
    lower_shift: usize,
    upper: usize,
    upper_shift: usize,
}

impl Place {
    const fn of(index: usize) -> Self {
        let (half, run, column) = (index / 128, index / RUN % 4, index % RUN);
        Self {
            lower: half * 64 + run % 2 * RUN + column,
            lower_shift: run / 2 * 4,
            upper: half * RUN + column,
            upper_shift: run * 2,
        }
    }
}

/// The weight of each group that is farthest from zero becomes about -32, the largest scale -128.
fn encode(weights: &[f32], block: &mut [u8]) {
    let mut wanted = [0.0f32; WEIGHTS / GROUP];
    for (scale, group) in wanted.iter_mut().zip(weights.chunks_exact(GROUP)) {
        *scale = farthest(group) / -32.0;
    }
    let scale = half_to_float(half_from_float(farthest(&wanted) / -128.0));
    let (lower, rest) = block.split_at_mut(WEIGHTS / 2);
    let (upper, rest) = rest.split_at_mut(WEIGHTS / 4);
    let (scales, half) = rest.split_at_mut(WEIGHTS / GROUP);
    put_half(scale, half);
    let groups = wanted.map(|wanted| signed((wanted * inverse(scale)).round()));
    for (byte, group) in scales.iter_mut().zip(groups) {
        *byte = group.cast_unsigned();
    }
    let groups = groups.iter().flat_map(|group| [*group; GROUP]);
    for (index, (weight, group)) in weights.iter().zip(groups).enumerate() {
        let inverse = inverse(scale * f32::from(group));
        let number = signed((weight * inverse).round().clamp(-32.0, 31.0) + 32.0).cast_unsigned();
        let place = Place::of(index);
        if let Some(byte) = lower.get_mut(place.lower) {
            *byte |= (number & 15) << place.lower_shift;
        }
        if let Some(byte) = upper.get_mut(place.upper) {
            *byte |= (number >> 4) << place.upper_shift;
        }
    }
}
