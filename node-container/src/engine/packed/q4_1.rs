//! Products of `Q4_1` weights and rows of numbers, sixteen rows of weights at a time, for AVX-512 with VNNI.
//!
//! A block of `Q4_1` is 32 weights of 4 bits `q`, a scale `d` and a least value `m`: a weight is `d·q + m`. The numbers
//! that they are multiplied with are rounded to 8 bits with a scale for each 32, as llama.cpp does it for this type, so
//! that a block's product is one of integers: `d·d'·Σ q·q' + m·Σ x'`.
//!
//! Weights lie so that one register holds the same four columns of sixteen rows:
//! ```text
//! group of 16 rows, block of 32 columns: 16 × d │ 16 × m │ 4 × (16 rows × 4 bytes, each two columns 16 apart)
//! ```

use std::arch::x86_64::{
    _mm_storeu_si128, _mm256_loadu_si256, _mm512_abs_ps, _mm512_add_epi32, _mm512_and_si512,
    _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_cvtps_epi32, _mm512_cvtsepi32_epi8,
    _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_max_ps,
    _mm512_mul_ps, _mm512_reduce_add_epi32, _mm512_reduce_max_ps, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_srli_epi16,
    _mm512_storeu_ps,
};
use std::ops::Range;

/// Rows that are multiplied at once.
pub(super) const GROUP_ROWS: usize = 16;

/// Weights of a block.
pub(super) const BLOCK: usize = 32;

/// Bytes of a block in a file.
const BLOCK_BYTES: usize = 20;

/// Bytes of the same block of a group.
const GROUP_BYTES: usize = GROUP_ROWS * BLOCK_BYTES;

/// Where the quants of a group's block begin.
const QUANTS_AT: usize = 4 * GROUP_ROWS;

/// Columns whose sums are held in registers at once.
const TILE: usize = 8;

/// Whether this processor has the instructions.
pub(super) fn is_possible() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
}

/// Brings `data`, rows of `blocks` blocks in a file's order, into the order described above. Both have the same length,
/// a multiple of a group's.
pub(super) fn pack(data: &[u8], packed: &mut [u8], blocks: usize) {
    let length = GROUP_BYTES * blocks;
    for (group, to) in data
        .chunks_exact(length)
        .zip(packed.chunks_exact_mut(length))
    {
        let rows = group.chunks_exact(BLOCK_BYTES * blocks);
        for (row, of_row) in rows.enumerate() {
            let of_blocks = of_row.chunks_exact(BLOCK_BYTES);
            for (from, to) in of_blocks.zip(to.chunks_exact_mut(GROUP_BYTES)) {
                let (numbers, quants) = from.split_at(4);
                let (scale, least) = numbers.split_at(2);
                put(to, 2 * row, scale);
                put(to, 2 * (GROUP_ROWS + row), least);
                for (place, four) in quants.chunks_exact(4).enumerate() {
                    put(to, QUANTS_AT + 4 * (GROUP_ROWS * place + row), four);
                }
            }
        }
    }
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = to.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Rows of numbers, rounded.
#[derive(Debug, Default)]
pub(super) struct Rounded {
    /// Blocks of each row.
    blocks: usize,
    quants: Vec<i8>,
    /// Of each block the scale, and the sum of its numbers.
    scales: Vec<[f32; 2]>,
}

impl Rounded {
    /// Forgets all rows; the next ones have so many blocks.
    pub(super) fn clear(&mut self, blocks: usize) {
        self.blocks = blocks;
        self.quants.clear();
        self.scales.clear();
    }

    /// Rows that are held.
    fn rows(&self) -> usize {
        self.scales.len().checked_div(self.blocks).unwrap_or(0)
    }

    /// Adds one row.
    pub(super) fn push(&mut self, row: &[f32]) {
        assert!(
            is_possible() && row.len() == self.blocks * BLOCK,
            "as many as were announced"
        );
        for block in row.chunks_exact(BLOCK) {
            let mut quants = [0; BLOCK];
            // SAFETY: the instructions are there, and the block has its length.
            let scale = unsafe { round(block.as_ptr(), &mut quants) };
            self.quants.extend_from_slice(&quants);
            self.scales.push(scale);
        }
    }
}

/// Rounds a block of numbers; returns its scale and its sum.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn round(block: *const f32, quants: &mut [i8; BLOCK]) -> [f32; 2] {
    // SAFETY: the caller's block has 32 numbers, and `quants` as many places.
    unsafe {
        let (low, high) = (_mm512_loadu_ps(block), _mm512_loadu_ps(block.add(16)));
        let most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
        let scale = most / 127.0;
        let inverse = _mm512_set1_ps(if scale > 0.0 { 1.0 / scale } else { 0.0 });
        let low = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
        let high = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
        let to = quants.as_mut_ptr();
        _mm_storeu_si128(to.cast(), _mm512_cvtsepi32_epi8(low));
        _mm_storeu_si128(to.add(16).cast(), _mm512_cvtsepi32_epi8(high));
        #[expect(clippy::cast_precision_loss, reason = "at most 32 × 127")]
        let sum = _mm512_reduce_add_epi32(_mm512_add_epi32(low, high)) as f32;
        [scale, scale * sum]
    }
}

/// Multiplies some groups of `packed` weights with all rows of `x`. `out` is where the first weight row's product with
/// the first row of `x` belongs; the next row of `x` has its products `stride` further on.
///
/// # Safety
/// `packed` has a whole group of `x`'s blocks for each of `groups`, and `out` has room for the products of these with
/// every row of `x`, which nobody else touches meanwhile.
pub(super) unsafe fn multiply(
    packed: *const u8,
    groups: Range<usize>,
    x: &Rounded,
    out: *mut f32,
    stride: usize,
) {
    assert!(is_possible(), "asked before");
    let rows = x.rows();
    for group in groups {
        let mut row = 0;
        while row < rows {
            // SAFETY: the caller's promise; the rows are within `x`.
            row += unsafe {
                let weights = packed.add(group * GROUP_BYTES * x.blocks);
                let quants = x.quants.as_ptr().add(row * x.blocks * BLOCK);
                let scales = x.scales.as_ptr().add(row * x.blocks);
                let out = out.add(group * GROUP_ROWS + row * stride);
                match rows - row {
                    TILE.. => tile::<TILE>(weights, x.blocks, quants, scales, out, stride),
                    4.. => tile::<4>(weights, x.blocks, quants, scales, out, stride),
                    2.. => tile::<2>(weights, x.blocks, quants, scales, out, stride),
                    _ => tile::<1>(weights, x.blocks, quants, scales, out, stride),
                }
            };
        }
    }
}

/// One group of weights with `N` rows; returns `N`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[expect(
    clippy::indexing_slicing,
    reason = "constant places among eight, once the loops are unrolled"
)]
unsafe fn tile<const N: usize>(
    weights: *const u8,
    blocks: usize,
    quants: *const i8,
    scales: *const [f32; 2],
    out: *mut f32,
    stride: usize,
) -> usize {
    // SAFETY: everything lies within what the caller of `multiply` promised.
    unsafe {
        let nibble = _mm512_set1_epi8(0x0f);
        let mut sums = [_mm512_setzero_ps(); N];
        for block in 0..blocks {
            let of_block = weights.add(block * GROUP_BYTES);
            let scale = _mm512_cvtph_ps(_mm256_loadu_si256(of_block.cast()));
            let least = _mm512_cvtph_ps(_mm256_loadu_si256(of_block.add(2 * GROUP_ROWS).cast()));
            let mut w = [_mm512_setzero_si512(); 8];
            for place in 0..4 {
                let two = _mm512_loadu_si512(of_block.add(QUANTS_AT + 64 * place).cast());
                w[place] = _mm512_and_si512(two, nibble);
                w[place + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(two), nibble);
            }
            for (row, sum) in sums.iter_mut().enumerate() {
                let x: *const i32 = quants.add((row * blocks + block) * BLOCK).cast();
                let [x_scale, x_sum] = *scales.add(row * blocks + block);
                // Two chains, since each step waits for the one before.
                let (mut even, mut odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
                for place in (0..8).step_by(2) {
                    let four = _mm512_set1_epi32(x.add(place).read_unaligned());
                    even = _mm512_dpbusd_epi32(even, w[place], four);
                    let four = _mm512_set1_epi32(x.add(place + 1).read_unaligned());
                    odd = _mm512_dpbusd_epi32(odd, w[place + 1], four);
                }
                let product = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
                let both = _mm512_mul_ps(scale, _mm512_set1_ps(x_scale));
                *sum = _mm512_fmadd_ps(product, both, *sum);
                *sum = _mm512_fmadd_ps(least, _mm512_set1_ps(x_sum), *sum);
            }
        }
        for (row, sum) in sums.iter().enumerate() {
            _mm512_storeu_ps(out.add(row * stride), *sum);
        }
    }
    N
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Halves that are exact in 16 bits: a power of two, and its bits.
    fn half(exponent: i32) -> (f32, u16) {
        let bits = u16::try_from(15 + exponent).expect("small") << 10;
        (2f32.powi(exponent), bits)
    }

    /// Numbers without a pattern.
    fn noise(state: &mut u64) -> u64 {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    /// A file's rows, and the weights that they mean.
    fn weights(rows: usize, blocks: usize) -> (Vec<u8>, Vec<f32>) {
        let (mut data, mut values, mut state) = (Vec::new(), Vec::new(), 1);
        for _ in 0..rows * blocks {
            let (scale, scale_bits) = half(-i32::try_from(noise(&mut state) % 5).expect("small"));
            let (least, least_bits) = half(-i32::try_from(noise(&mut state) % 3).expect("small"));
            data.extend(scale_bits.to_le_bytes());
            data.extend((least_bits | 0x8000).to_le_bytes());
            let quants: Vec<u8> = (0..16)
                .map(|_| u8::try_from(noise(&mut state) % 256).expect("a byte"))
                .collect();
            let value = |quant: u8| f32::from(quant) * scale - least;
            values.extend(quants.iter().map(|byte| value(byte & 15)));
            values.extend(quants.iter().map(|byte| value(byte >> 4)));
            data.extend(quants);
        }
        (data, values)
    }

    #[test]
    fn products_are_those_of_the_weights_and_the_rounded_numbers() {
        if !is_possible() {
            return;
        }
        let (rows, blocks, stride) = (48, 3, 50);
        let (data, values) = weights(rows, blocks);
        let mut packed = vec![0; data.len()];
        pack(&data, &mut packed, blocks);
        for count in [1, 2, 3, 5, 8, 13, 16] {
            let mut state = 7;
            let x: Vec<Vec<f32>> = (0..count)
                .map(|_| {
                    (0..blocks * BLOCK)
                        .map(|_| {
                            f32::from(u16::try_from(noise(&mut state) % 255).expect("small"))
                                - 127.0
                        })
                        .collect()
                })
                .collect();
            let mut rounded = Rounded::default();
            rounded.clear(blocks);
            for row in &x {
                rounded.push(row);
            }
            let mut out = vec![f32::NAN; stride * count];
            // SAFETY: three groups of weights, and room for each row's products.
            unsafe { multiply(packed.as_ptr(), 0..3, &rounded, out.as_mut_ptr(), stride) };
            for (row, x) in x.iter().enumerate() {
                for weight in 0..rows {
                    let of_row = &values[weight * blocks * BLOCK..][..blocks * BLOCK];
                    let exact: f64 = of_row
                        .iter()
                        .zip(x)
                        .map(|(w, x)| f64::from(*w) * f64::from(*x))
                        .sum();
                    let size: f64 = of_row
                        .iter()
                        .zip(x)
                        .map(|(w, x)| f64::from((*w * *x).abs()))
                        .sum();
                    let got = f64::from(out[row * stride + weight]);
                    // Numbers are rounded to a 127th of the largest.
                    assert!(
                        (got - exact).abs() <= size / 100.0,
                        "{got} and {exact}, {count} rows"
                    );
                }
                assert!(
                    out[row * stride + rows].is_nan(),
                    "nothing is written beyond"
                );
            }
        }
    }

    #[test]
    fn whole_numbers_are_multiplied_exactly() {
        if !is_possible() {
            return;
        }
        let (data, values) = weights(16, 1);
        let mut packed = vec![0; data.len()];
        pack(&data, &mut packed, 1);
        let mut x = [0.0; BLOCK];
        for (place, number) in x.iter_mut().enumerate() {
            *number = f32::from(u8::try_from(place).expect("few")) * 4.0 - 64.0;
        }
        x[5] = 127.0;
        let mut rounded = Rounded::default();
        rounded.clear(1);
        rounded.push(&x);
        let mut out = [0.0; 16];
        // SAFETY: one group of weights, and room for its products.
        unsafe { multiply(packed.as_ptr(), 0..1, &rounded, out.as_mut_ptr(), 16) };
        for (got, weights) in out.iter().zip(values.chunks(BLOCK)) {
            let exact: f32 = weights.iter().zip(x).map(|(w, x)| w * x).sum();
            assert!((got - exact).abs() < 1e-2, "{got} and {exact}");
        }
    }
}
