//! Products with weights of any type.

use std::borrow::Cow;

use crate::quant::{NotBlocks, QuantType};

/// Sums that are made side by side: additions that need not wait for each other, which compilers make one instruction.
const LANES: usize = 8;

/// A matrix of weights as it lies in a file, row by row.
#[derive(Debug, Clone)]
pub struct Matrix<'w> {
    kind: QuantType,
    columns: usize,
    row_bytes: usize,
    bytes: Cow<'w, [u8]>,
}

impl<'w> Matrix<'w> {
    /// A matrix with rows of so many weights. Refused where the bytes are no whole rows of whole blocks.
    pub fn new(
        kind: QuantType,
        columns: usize,
        bytes: impl Into<Cow<'w, [u8]>>,
    ) -> Result<Self, NotBlocks> {
        let bytes = bytes.into();
        match kind.bytes(columns) {
            Some(row_bytes) if row_bytes > 0 && bytes.len().is_multiple_of(row_bytes) => Ok(Self {
                kind,
                columns,
                row_bytes,
                bytes,
            }),
            Some(_) | None => Err(NotBlocks {
                kind,
                bytes: bytes.len(),
                weights: columns,
            }),
        }
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    /// Weights of a row.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// One row as numbers, such as the embedding of a token; none where there is no such row.
    pub fn row(&self, index: usize) -> Option<Vec<f32>> {
        let blocks = self.bytes.chunks_exact(self.row_bytes).nth(index)?;
        let mut row = vec![0.0; self.columns];
        self.kind.decode(blocks, &mut row).ok()?;
        Some(row)
    }

    /// `y = W · x` for each vector of [`Matrix::columns`] numbers: vectors of [`Matrix::rows`] numbers, as many. Weights
    /// are decoded to 32 bits, and so are vectors: nothing is rounded before it is multiplied.
    pub fn product(&self, vectors: &[f32]) -> Vec<f32> {
        let rows = self.rows();
        let count = vectors.len() / self.columns;
        let mut products = vec![0.0; rows * count];
        let mut row = vec![0.0; self.columns];
        for (index, blocks) in self.bytes.chunks_exact(self.row_bytes).enumerate() {
            if self.kind.decode(blocks, &mut row).is_err() {
                // `new` has seen to it that rows are whole blocks.
                break;
            }
            let places = products.iter_mut().skip(index).step_by(rows);
            for (place, vector) in places.zip(vectors.chunks_exact(self.columns)) {
                *place = dot(&row, vector);
            }
        }
        products
    }
}

/// `Σ aᵢ · bᵢ`, in eight sums that are added in the end.
pub fn dot(one: &[f32], other: &[f32]) -> f32 {
    let (ones, one_rest) = one.as_chunks::<LANES>();
    let (others, other_rest) = other.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (one, other) in ones.iter().zip(others) {
        for ((sum, one), other) in sums.iter_mut().zip(one).zip(other) {
            *sum += one * other;
        }
    }
    let rest: f32 = one_rest.iter().zip(other_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
