//! What `Q4_K` and `Q5_K` share: eight groups of 32 weights, each with a scale and a minimum of 6 bits, packed into
//! twelve bytes; the scales' scale and the minimums' scale have 16 bits (`get_scale_min_k4` of ggml).

use super::nibbles::{extremes, inverse, natural, put_half, take_half};
use super::{half_from_float, half_to_float};

/// Weights in a block.
pub(super) const WEIGHTS: usize = 256;

/// Weights with a scale of their own.
pub(super) const GROUP: usize = 32;

const GROUPS: usize = WEIGHTS / GROUP;

/// The largest scale and minimum.
const MOST: u8 = 63;

/// A group's scale and minimum: a weight is `scale · q - minimum`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Group {
    pub(super) scale: f32,
    pub(super) minimum: f32,
}

/// The groups' scales and minimums, and what follows them.
pub(super) fn take_groups(block: &[u8]) -> ([Group; GROUPS], &[u8]) {
    let (scale, rest) = take_half(block);
    let (minimum, rest) = take_half(rest);
    let (packed, rest) = rest.split_first_chunk().unwrap_or((&[0; 12], &[]));
    let groups = unpack(packed).map(|(scales, minimums)| Group {
        scale: scale * f32::from(scales),
        minimum: minimum * f32::from(minimums),
    });
    (groups, rest)
}

/// Writes groups for weights with numbers up to `levels`, and leaves what follows. What is written can be read from the
/// groups that are returned.
pub(super) fn put_groups<'b>(
    weights: &[f32],
    levels: f32,
    block: &'b mut [u8],
) -> ([Group; GROUPS], &'b mut [u8]) {
    let mut wanted = [Group::default(); GROUPS];
    for (group, weights) in wanted.iter_mut().zip(weights.chunks_exact(GROUP)) {
        let (least, most) = extremes(weights);
        // Minimums have no sign.
        let least = least.min(0.0);
        group.scale = (most - least).max(0.0) / levels;
        group.minimum = -least;
    }
    let most = wanted.iter().fold(Group::default(), |most, group| Group {
        scale: most.scale.max(group.scale),
        minimum: most.minimum.max(group.minimum),
    });
    let scale = stored(most.scale / f32::from(MOST));
    let minimum = stored(most.minimum / f32::from(MOST));
    let rest = put_half(minimum, put_half(scale, block));
    let numbers = wanted.map(|group| {
        (
            natural(group.scale * inverse(scale) + 0.5, MOST),
            natural(group.minimum * inverse(minimum) + 0.5, MOST),
        )
    });
    let (packed, rest) = rest.split_at_mut(12);
    packed.copy_from_slice(&pack(numbers));
    let written = numbers.map(|(scales, minimums)| Group {
        scale: scale * f32::from(scales),
        minimum: minimum * f32::from(minimums),
    });
    (written, rest)
}

/// The numbers up to `levels` that say these weights best.
pub(super) fn numbers(group: Group, weights: &[f32], levels: u8) -> impl Iterator<Item = u8> {
    let inverse = inverse(group.scale);
    weights
        .iter()
        .map(move |weight| natural((weight + group.minimum) * inverse + 0.5, levels))
}

/// What remains of a float in 16 bits.
const fn stored(float: f32) -> f32 {
    half_to_float(half_from_float(float))
}

/// Of the twelve bytes, the first four have the scales of groups 0 to 3 in their lower 6 bits, the next four the
/// minimums. The scales and minimums of groups 4 to 7 have their lower 4 bits in the last four bytes, and their upper 2
/// bits above those of groups 0 to 3.
fn unpack(packed: &[u8; 12]) -> [(u8, u8); GROUPS] {
    let mut numbers = [(0, 0); GROUPS];
    let (first, second) = numbers.split_at_mut(GROUPS / 2);
    let (scales, rest) = packed.split_at(GROUPS / 2);
    let (minimums, lower) = rest.split_at(GROUPS / 2);
    let bytes = scales.iter().zip(minimums).zip(lower);
    for ((first, second), ((scale, minimum), lower)) in first.iter_mut().zip(second).zip(bytes) {
        *first = (scale & 63, minimum & 63);
        *second = (
            (lower & 15) | (scale >> 6 << 4),
            (lower >> 4) | (minimum >> 6 << 4),
        );
    }
    numbers
}

/// The inverse of [`unpack`].
fn pack(numbers: [(u8, u8); GROUPS]) -> [u8; 12] {
    let mut packed = [0; 12];
    let (first, second) = numbers.split_at(GROUPS / 2);
    let (scales, rest) = packed.split_at_mut(GROUPS / 2);
    let (minimums, lower) = rest.split_at_mut(GROUPS / 2);
    let bytes = scales.iter_mut().zip(minimums).zip(lower);
    for ((first, second), ((scale, minimum), lower)) in first.iter().zip(second).zip(bytes) {
        *scale = first.0 | (second.0 >> 4 << 6);
        *minimum = first.1 | (second.1 >> 4 << 6);
        *lower = (second.0 & 15) | (second.1 << 4);
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_scales_are_unpacked_again() {
        for seed in 0..64u8 {
            let number = |index: usize, step: u8| {
                let index = u8::try_from(index).expect("small");
                seed.wrapping_mul(7).wrapping_add(index.wrapping_mul(step)) & 63
            };
            let numbers = std::array::from_fn(|index| (number(index, 11), number(index, 29)));
            assert_eq!(unpack(&pack(numbers)), numbers);
        }
    }
}
