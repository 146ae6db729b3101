//! Floats of 16 bits (IEEE 754 binary16), which Rust's standard library does not have yet.

/// The float that 16 bits mean. Exact.
pub const fn half_to_float(half: u16) -> f32 {
    let sign = ((half & 0x8000) as u32) << 16;
    let exponent = ((half >> 10) & 0x1f) as u32;
    let fraction = (half & 0x3ff) as u32;
    let magnitude = match exponent {
        // Without a leading one: a multiple of 2⁻²⁴. Put behind the leading one of 2⁻¹, it only has to lose that.
        0 => (f32::from_bits(0.5f32.to_bits() | fraction) - 0.5).to_bits(),
        0x1f => 0x7f80_0000 | (fraction << 13),
        // The bias is 15 here and 127 there.
        exponent => ((exponent + 112) << 23) | (fraction << 13),
    };
    f32::from_bits(sign | magnitude)
}

/// The nearest float of 16 bits, the even one of two, as processors and ggml round; infinite beyond 65,504.
pub const fn half_from_float(float: f32) -> u16 {
    let bits = float.to_bits();
    let sign = low((bits >> 16) & 0x8000);
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    // 2¹⁶ and more.
    if magnitude >= 0x4780_0000 {
        return sign | 0x7c00;
    }
    // Below 2⁻¹⁴ there is no leading one: multiples of 2⁻²⁴. The addition of 2⁻¹ leaves just those bits, rounded.
    if magnitude < 0x3880_0000 {
        let shifted = f32::from_bits(magnitude) + 0.5;
        return sign | low(shifted.to_bits() - 0.5f32.to_bits());
    }
    // A carry out of the fraction goes into the exponent, as it should; out of the largest exponent it is infinity.
    let odd = (magnitude >> 13) & 1;
    let rounded = magnitude + 0xfff + odd;
    sign | low((rounded >> 13) - (112 << 10))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the callers pass numbers of 16 bits"
)]
const fn low(bits: u32) -> u16 {
    bits as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_goes_to_float_and_back() {
        for half in 0..=u16::MAX {
            let float = half_to_float(half);
            if float.is_nan() {
                assert!(half & 0x7c00 == 0x7c00 && half & 0x3ff != 0);
                assert!(half_to_float(half_from_float(float)).is_nan());
            } else {
                assert_eq!(half_from_float(float), half, "{half:#x}");
            }
        }
    }

    #[test]
    fn floats_between_two_halves_go_to_the_nearest_and_the_even_one() {
        for half in 0..0x7bffu16 {
            let (low, high) = (half_to_float(half), half_to_float(half + 1));
            // Halfway between two neighbours is exact in 32 bits.
            let middle = low + (high - low) / 2.0;
            assert_eq!(half_from_float(middle), half + (half & 1), "{half:#x}");
            assert_eq!(half_from_float(middle.next_down()), half);
            assert_eq!(half_from_float(middle.next_up()), half + 1);
            assert_eq!(half_from_float(-middle.next_up()), (half + 1) | 0x8000);
        }
    }

    #[test]
    fn what_is_too_large_is_infinite() {
        assert_eq!(half_from_float(65_519.0), 0x7bff);
        assert_eq!(half_from_float(65_520.0), 0x7c00);
        assert_eq!(half_from_float(-1e9), 0xfc00);
        assert_eq!(half_from_float(f32::INFINITY), 0x7c00);
        assert_eq!(half_from_float(1e-9), 0);
    }
}
