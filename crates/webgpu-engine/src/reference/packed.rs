//! Vectors in 8 bits, as packed-dot kernels read them. A product of weights with them is, but for rounding in the end,
//! [`super::Matrix::product`] with what they mean ([`Packed::to_floats`]).

/// Numbers with a scale of their own, as in ggml's `Q8_1`.
pub const GROUP: usize = 32;

/// The largest number; so many steps lie between it and zero.
const MOST: f32 = 127.0;

/// 32 numbers of a vector: each is `scale · number`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Packed {
    /// The whole numbers, -127 to 127.
    pub numbers: [i8; GROUP],
    /// What they are multiplied by.
    pub scale: f32,
}

impl Packed {
    /// The number that is farthest from zero becomes 127 or -127, the others are rounded, a half to the even one.
    pub fn new(group: &[f32; GROUP]) -> Self {
        let most = group.iter().fold(0.0f32, |most, it| most.max(it.abs()));
        let inverse = MOST / most.max(SMALLEST);
        Self {
            numbers: group.map(|it| signed((it * inverse).round_ties_even())),
            scale: most / MOST,
        }
    }

    /// Whole groups of a vector; what is left over is left out.
    pub fn all(vector: &[f32]) -> Vec<Self> {
        let (groups, _) = vector.as_chunks();
        groups.iter().map(Self::new).collect()
    }

    /// What remains of the floats.
    pub fn to_floats(&self) -> [f32; GROUP] {
        self.numbers.map(|number| f32::from(number) * self.scale)
    }

    /// Scale times the sum of the first sixteen and of the other numbers: what a weight's minimum is multiplied by.
    pub fn sums(&self) -> [f32; 2] {
        let (first, second) = self.numbers.split_at(GROUP / 2);
        [first, second].map(|half| {
            let sum: i16 = half.iter().map(|it| i16::from(*it)).sum();
            f32::from(sum) * self.scale
        })
    }

    /// The group as it lies on the device: `kernels::packed` describes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let numbers = self.numbers.iter().map(|it| it.cast_unsigned());
        let [first, second] = self.sums();
        let floats = [self.scale, first, second, 0.0];
        numbers
            .chain(floats.into_iter().flat_map(f32::to_le_bytes))
            .collect()
    }
}

/// Where all numbers are smaller, their inverse would be no float any more.
const SMALLEST: f32 = 1e-35;

/// From -128 to 127.
#[expect(
    clippy::cast_possible_truncation,
    reason = "such a conversion keeps within the type, and what is no number becomes 0"
)]
const fn signed(value: f32) -> i8 {
    value as i8
}
