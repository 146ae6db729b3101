//! What the types with blocks of 32 share: numbers of 4 bits, the first sixteen in the lower halves of the bytes, the
//! other sixteen in the upper ones; a fifth bit apart; scales of 16 bits in front.

use super::half::{half_from_float, half_to_float};

/// Weights in a block.
pub(super) const WEIGHTS: usize = 32;

/// The float of 16 bits that begins a block, and what follows it.
pub(super) fn take_half(block: &[u8]) -> (f32, &[u8]) {
    block
        .split_first_chunk()
        .map_or((0.0, block), |(half, rest)| {
            (half_to_float(u16::from_le_bytes(*half)), rest)
        })
}

/// Writes a float of 16 bits and leaves what follows it.
pub(super) fn put_half(float: f32, block: &mut [u8]) -> &mut [u8] {
    let (half, rest) = block.split_at_mut(2);
    half.copy_from_slice(&half_from_float(float).to_le_bytes());
    rest
}

/// The fifth bits, and what follows them.
pub(super) fn take_fifths(block: &[u8]) -> (u32, &[u8]) {
    block
        .split_first_chunk()
        .map_or((0, block), |(bits, rest)| (u32::from_le_bytes(*bits), rest))
}

/// Gives each weight what its number means. The number has its fifth bit from `fifths`.
pub(super) fn unpack(
    nibbles: &[u8],
    fifths: u32,
    weights: &mut [f32],
    meaning: impl Fn(f32) -> f32,
) {
    let (first, second) = weights.split_at_mut(WEIGHTS / 2);
    for (place, ((byte, first), second)) in nibbles.iter().zip(first).zip(second).enumerate() {
        *first = meaning(f32::from((byte & 15) | fifth(fifths, place)));
        *second = meaning(f32::from((byte >> 4) | fifth(fifths, place + WEIGHTS / 2)));
    }
}

/// The fifth bit of a number, at its place.
const fn fifth(fifths: u32, place: usize) -> u8 {
    if (fifths >> place) & 1 == 1 { 16 } else { 0 }
}

/// Writes the lower four bits of numbers; the fifth ones are returned.
pub(super) fn pack(numbers: impl Iterator<Item = u8>, nibbles: &mut [u8]) -> u32 {
    let mut fifths = 0;
    for (place, number) in numbers.enumerate() {
        let shift = if place < WEIGHTS / 2 { 0 } else { 4 };
        if let Some(byte) = nibbles.get_mut(place % (WEIGHTS / 2)) {
            *byte |= (number & 15) << shift;
        }
        fifths |= u32::from(number >> 4) << place;
    }
    fifths
}

/// The weight that is farthest from zero; the first of several.
pub(super) fn farthest(weights: &[f32]) -> f32 {
    let mut farthest = 0.0f32;
    for weight in weights {
        if weight.abs() > farthest.abs() {
            farthest = *weight;
        }
    }
    farthest
}

/// The smallest and the largest weight.
pub(super) fn extremes(weights: &[f32]) -> (f32, f32) {
    let both = (f32::INFINITY, f32::NEG_INFINITY);
    weights.iter().fold(both, |(least, most), weight| {
        (least.min(*weight), most.max(*weight))
    })
}

/// One by this, or nothing by nothing.
pub(super) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Without the fraction, from 0 to `most`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "such a conversion keeps within the type, and what is no number becomes 0"
)]
pub(super) fn natural(value: f32, most: u8) -> u8 {
    (value as u8).min(most)
}
