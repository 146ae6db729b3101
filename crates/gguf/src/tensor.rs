//! One tensor as the index names it, and how ggml's types of weights are stored.

use super::limits::DIMENSIONS_MAX;

/// How weights are stored: so many of them in a block of so many bytes. All of ggml's types are known, also those that
/// cannot be run, so that a refusal can name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorType {
    /// ggml's number.
    pub id: u32,
    /// ggml's name.
    pub name: &'static str,
    /// Weights in a block.
    pub block_weights: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
}

/// `ggml_type` of `ggml.h` with the sizes of `ggml-common.h`. Numbers that are missing were given back.
const TYPES: [TensorType; 35] = [
    kind(0, "F32", 1, 4),
    kind(1, "F16", 1, 2),
    kind(2, "Q4_0", 32, 18),
    kind(3, "Q4_1", 32, 20),
    kind(6, "Q5_0", 32, 22),
    kind(7, "Q5_1", 32, 24),
    kind(8, "Q8_0", 32, 34),
    kind(9, "Q8_1", 32, 36),
    kind(10, "Q2_K", 256, 84),
    kind(11, "Q3_K", 256, 110),
    kind(12, "Q4_K", 256, 144),
    kind(13, "Q5_K", 256, 176),
    kind(14, "Q6_K", 256, 210),
    kind(15, "Q8_K", 256, 292),
    kind(16, "IQ2_XXS", 256, 66),
    kind(17, "IQ2_XS", 256, 74),
    kind(18, "IQ3_XXS", 256, 98),
    kind(19, "IQ1_S", 256, 50),
    kind(20, "IQ4_NL", 32, 18),
    kind(21, "IQ3_S", 256, 110),
    kind(22, "IQ2_S", 256, 82),
    kind(23, "IQ4_XS", 256, 136),
    kind(24, "I8", 1, 1),
    kind(25, "I16", 1, 2),
    kind(26, "I32", 1, 4),
    kind(27, "I64", 1, 8),
    kind(28, "F64", 1, 8),
    kind(29, "IQ1_M", 256, 56),
    kind(30, "BF16", 1, 2),
    kind(34, "TQ1_0", 256, 54),
    kind(35, "TQ2_0", 256, 66),
    kind(39, "MXFP4", 32, 17),
    kind(40, "NVFP4", 64, 36),
    kind(41, "Q1_0", 128, 18),
    kind(42, "Q2_0", 64, 18),
];

const fn kind(id: u32, name: &'static str, block_weights: u64, block_bytes: u64) -> TensorType {
    TensorType {
        id,
        name,
        block_weights,
        block_bytes,
    }
}

impl TensorType {
    /// The type that ggml gives this number.
    pub fn from_id(id: u32) -> Option<Self> {
        TYPES.iter().find(|kind| kind.id == id).copied()
    }

    /// A type that is not known: as if its weights took no bytes, since nobody knows how many they take.
    pub const fn unknown(id: u32) -> Self {
        kind(id, "unknown", 1, 0)
    }
}

/// A shape of up to four dimensions; a single number has none. As in ggml, the one that changes quickest comes first: a
/// matrix's first dimension is the length of its rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Dimensions {
    lengths: [u64; DIMENSIONS_MAX as usize],
    count: usize,
}

impl Dimensions {
    /// None where there are too many, where one is zero, or where their product is beyond 64 bits.
    pub fn new(lengths: &[u64]) -> Option<Self> {
        let mut all = [1; DIMENSIONS_MAX as usize];
        let (filled, _) = all.split_at_mut_checked(lengths.len())?;
        filled.copy_from_slice(lengths);
        let product = lengths
            .iter()
            .try_fold(1u64, |product, length| product.checked_mul(*length))?;
        (product > 0).then_some(Self {
            lengths: all,
            count: lengths.len(),
        })
    }

    /// The shape of a list of numbers.
    pub const fn vector(length: u64) -> Self {
        Self {
            lengths: [length, 1, 1, 1],
            count: 1,
        }
    }

    /// The shape of a matrix. Its two lengths are below 2³², so that their product has 64 bits.
    pub const fn matrix(row: u64, rows: u64) -> Self {
        Self {
            lengths: [row, rows, 1, 1],
            count: 2,
        }
    }

    /// Whether it is the same shape; further dimensions of one change nothing.
    pub fn is(&self, other: &Self) -> bool {
        self.lengths == other.lengths
    }

    /// The dimensions.
    pub fn as_slice(&self) -> &[u64] {
        self.lengths.get(..self.count).unwrap_or(&self.lengths)
    }

    /// Weights in a row.
    pub const fn row(&self) -> u64 {
        let [row, ..] = self.lengths;
        row
    }

    /// Rows of all further dimensions.
    pub const fn rows(&self) -> u64 {
        let [_, second, third, fourth] = self.lengths;
        second * third * fourth
    }

    /// Weights.
    pub const fn weights(&self) -> u64 {
        self.row() * self.rows()
    }
}

impl std::fmt::Debug for Dimensions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.as_slice(), formatter)
    }
}

impl std::fmt::Display for Dimensions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.as_slice(), formatter)
    }
}

/// A tensor of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub dimensions: Dimensions,
    /// How its weights are stored.
    pub kind: TensorType,
    /// Where it begins, in bytes after [`super::Header::data_offset`].
    pub offset: u64,
    /// How many bytes it takes; 0 if its type is not known ([`super::Parser::lenient`]), though it does take some.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_has_up_to_four_dimensions_of_something() {
        let shape = Dimensions::new(&[64, 3]).expect("a matrix");
        assert_eq!((shape.row(), shape.rows(), shape.weights()), (64, 3, 192));
        assert_eq!(shape.to_string(), "[64, 3]");
        let number = Dimensions::new(&[]).expect("a number");
        assert_eq!((number.as_slice(), number.weights()), (&[][..], 1));
        assert_eq!(Dimensions::new(&[1; 5]), None);
        assert_eq!(Dimensions::new(&[7, 0]), None);
        assert_eq!(Dimensions::new(&[1 << 32, 1 << 32]), None);
        let largest = Dimensions::new(&[u64::MAX, 1]).expect("fits 64 bits");
        assert_eq!(largest.weights(), u64::MAX);
    }

    #[test]
    fn every_number_names_one_type() {
        for kind in TYPES {
            assert_eq!(TensorType::from_id(kind.id), Some(kind));
        }
        assert_eq!(TensorType::from_id(4), None);
        assert_eq!(TensorType::from_id(u32::MAX), None);
    }
}
