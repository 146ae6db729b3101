//! How weights lie in a file: one row of a table for each type, with its blocks and what they mean.
//!
//! The layouts and their arithmetic are ggml's (`ggml-common.h`, `ggml-quants.c`). [`QuantType::decode`] is the CPU
//! reference of every kernel and gives, bit by bit, what ggml's own dequantisation gives. [`QuantType::encode`] is for
//! tests and for writing seeded models: simple, not the best that a type can do.

mod bfloat16;
mod float16;
mod float32;
mod half;
mod integers;
mod layout;
mod nibbles;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod super_block;

pub use half::{half_from_float, half_to_float};
pub use integers::packed_weights_wgsl;
pub use layout::{LOAD_WEIGHTS, Layout, WEIGHTS_WGSL};

use gguf::TensorType;

/// A type of weights that can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuantType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper half of 32-bit floats.
    BF16,
    /// 4 bits around zero, one scale for 32 weights.
    Q4_0,
    /// 4 bits from a minimum, one scale for 32 weights.
    Q4_1,
    /// 5 bits around zero, one scale for 32 weights.
    Q5_0,
    /// 5 bits from a minimum, one scale for 32 weights.
    Q5_1,
    /// 8 bits around zero, one scale for 32 weights.
    Q8_0,
    /// 4 bits from a minimum, scales of 6 bits for 32 of 256 weights.
    Q4K,
    /// 5 bits from a minimum, scales of 6 bits for 32 of 256 weights.
    Q5K,
    /// 6 bits around zero, scales of 8 bits for 16 of 256 weights.
    Q6K,
}

/// The row of a type in the table.
#[derive(Debug)]
pub struct Quant {
    /// The type.
    pub kind: QuantType,
    /// ggml's name.
    pub name: &'static str,
    /// ggml's number, which the index of a GGUF file has.
    pub ggml_id: u32,
    /// Weights in a block.
    pub block_weights: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
    /// One block → its weights. Both slices are exactly as long as a block.
    decode: fn(&[u8], &mut [f32]),
    /// The weights of one block → the block.
    encode: fn(&[f32], &mut [u8]),
}

/// Bytes and weights that are not the same number of whole blocks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes and {weights} weights are not the same number of whole {kind:?} blocks")]
pub struct NotBlocks {
    /// Of which type.
    pub kind: QuantType,
    /// How many bytes.
    pub bytes: usize,
    /// How many weights.
    pub weights: usize,
}

impl QuantType {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The row of the table.
    pub const fn quant(self) -> &'static Quant {
        match self {
            Self::F32 => &float32::QUANT,
            Self::F16 => &float16::QUANT,
            Self::BF16 => &bfloat16::QUANT,
            Self::Q4_0 => &q4_0::QUANT,
            Self::Q4_1 => &q4_1::QUANT,
            Self::Q5_0 => &q5_0::QUANT,
            Self::Q5_1 => &q5_1::QUANT,
            Self::Q8_0 => &q8_0::QUANT,
            Self::Q4K => &q4_k::QUANT,
            Self::Q5K => &q5_k::QUANT,
            Self::Q6K => &q6_k::QUANT,
        }
    }

    /// The type that a tensor of a file has; none where it cannot be run.
    pub fn of(kind: TensorType) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|quant| quant.quant().ggml_id == kind.id)
    }

    /// How many bytes so many weights take; none where they are no whole blocks.
    pub const fn bytes(self, weights: usize) -> Option<usize> {
        let quant = self.quant();
        if !weights.is_multiple_of(quant.block_weights) {
            return None;
        }
        (weights / quant.block_weights).checked_mul(quant.block_bytes)
    }

    /// What blocks mean, as ggml computes it in 32 bits.
    pub fn decode(self, blocks: &[u8], weights: &mut [f32]) -> Result<(), NotBlocks> {
        let quant = self.quant();
        self.check(blocks.len(), weights.len())?;
        let weights = weights.chunks_exact_mut(quant.block_weights);
        for (block, weights) in blocks.chunks_exact(quant.block_bytes).zip(weights) {
            (quant.decode)(block, weights);
        }
        Ok(())
    }

    /// Blocks that mean about these weights. Scales beyond 16 bits become infinite.
    pub fn encode(self, weights: &[f32]) -> Result<Vec<u8>, NotBlocks> {
        let quant = self.quant();
        let bytes = self.bytes(weights.len()).unwrap_or(0);
        self.check(bytes, weights.len())?;
        let mut blocks = vec![0; bytes];
        let weights = weights.chunks_exact(quant.block_weights);
        for (weights, block) in weights.zip(blocks.chunks_exact_mut(quant.block_bytes)) {
            (quant.encode)(weights, block);
        }
        Ok(blocks)
    }

    fn check(self, bytes: usize, weights: usize) -> Result<(), NotBlocks> {
        if self.bytes(weights) == Some(bytes) {
            return Ok(());
        }
        Err(NotBlocks {
            kind: self,
            bytes,
            weights,
        })
    }
}

#[cfg(test)]
mod tests;
