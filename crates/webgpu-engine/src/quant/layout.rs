//! How weights lie in a buffer of the device, and the WGSL that reads them.
//!
//! Blocks that are whole words lie as in the file. Of the others the scales are taken out: first all blocks without
//! them, then all scales, two in a word. So kernels read whole words, and no more bytes than the file has.
//!
//! The WGSL of a type, beside the CPU's `decode`, gives 32 weights of a buffer called `NAME` as floats
//! (`load32_NAME(block) -> W32`; blocks are counted in 32 weights). WGSL has no pointers to buffers as arguments, so each
//! buffer has functions of its own.

use super::{NotBlocks, QuantType};

/// Both parts of a buffer begin and end at a vector of four words, which is what kernels read at once.
const ALIGN_BYTES: u64 = 16;

/// Bytes of a scale that lies apart.
const SCALE_BYTES: usize = 2;

/// Weights that kernels read at once.
pub const LOAD_WEIGHTS: u32 = 32;

/// How blocks lie in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Words of a block without a scale that lies apart. Of floats 32 are a block here.
    pub body_words: u32,
    /// Whether scales lie behind all blocks.
    pub has_scales: bool,
}

impl QuantType {
    /// How its blocks lie in a buffer.
    pub const fn layout(self) -> Layout {
        let (body_words, has_scales) = match self {
            Self::F32 => (32, false),
            Self::F16 | Self::BF16 => (16, false),
            Self::Q4_0 => (4, true),
            Self::Q4_1 => (5, false),
            Self::Q5_0 => (5, true),
            Self::Q5_1 => (6, false),
            Self::Q8_0 => (8, true),
            Self::Q4K => (36, false),
            Self::Q5K => (44, false),
            Self::Q6K => (52, true),
        };
        Layout {
            body_words,
            has_scales,
        }
    }

    /// Appends blocks of a file to what goes to the front of a buffer and what goes behind it.
    ///
    /// Refused where they are not whole blocks.
    pub fn split(
        self,
        blocks: &[u8],
        bodies: &mut Vec<u8>,
        scales: &mut Vec<u8>,
    ) -> Result<(), NotBlocks> {
        let quant = self.quant();
        if !blocks.len().is_multiple_of(quant.block_bytes) {
            return Err(NotBlocks {
                kind: self,
                bytes: blocks.len(),
                weights: blocks.len() / quant.block_bytes * quant.block_weights,
            });
        }
        if !self.layout().has_scales {
            bodies.extend_from_slice(blocks);
            return Ok(());
        }
        for block in blocks.chunks_exact(quant.block_bytes) {
            let (body, scale) = match self {
                Self::Q6K => block.split_at(quant.block_bytes - SCALE_BYTES),
                Self::F32
                | Self::F16
                | Self::BF16
                | Self::Q4_0
                | Self::Q4_1
                | Self::Q5_0
                | Self::Q5_1
                | Self::Q8_0
                | Self::Q4K
                | Self::Q5K => {
                    let (scale, body) = block.split_at(SCALE_BYTES);
                    (body, scale)
                }
            };
            bodies.extend_from_slice(body);
            scales.extend_from_slice(scale);
        }
        Ok(())
    }

    /// Bytes that so many weights take in a buffer: of their blocks, and of the scales behind these. Both are rounded up
    /// to 16 bytes. None where they are no whole blocks.
    pub fn gpu_bytes(self, weights: u64) -> Option<(u64, u64)> {
        let quant = self.quant();
        let [block_weights, block_bytes, scale_bytes] =
            [quant.block_weights, quant.block_bytes, SCALE_BYTES].map(|it| it as u64);
        if !weights.is_multiple_of(block_weights) {
            return None;
        }
        let blocks = weights / block_weights;
        let scale_bytes = if self.layout().has_scales {
            scale_bytes
        } else {
            0
        };
        let part = |bytes: u64| {
            let bytes = blocks.checked_mul(bytes)?;
            bytes.checked_next_multiple_of(ALIGN_BYTES)
        };
        Some((part(block_bytes - scale_bytes)?, part(scale_bytes)?))
    }

    /// What a buffer of such weights is an array of.
    pub const fn element(self) -> &'static str {
        match self {
            Self::F32 => "vec4<f32>",
            // Blocks that are no whole vectors.
            Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => "u32",
            Self::F16
            | Self::BF16
            | Self::Q4_0
            | Self::Q8_0
            | Self::Q4K
            | Self::Q5K
            | Self::Q6K => "vec4<u32>",
        }
    }

    /// The function `load32_NAME` for a buffer of this name with so many weights. [`WEIGHTS_WGSL`] must be in the same
    /// text, once.
    pub fn load_wgsl(self, name: &str, weights: u64) -> String {
        format!("{}{}", self.scale_wgsl(name, weights), self.load_text()).replace("NAME", name)
    }

    /// The function `scale_NAME` of the types whose scales lie apart; of the others nothing.
    pub fn scale_wgsl(self, name: &str, weights: u64) -> String {
        if !self.layout().has_scales {
            return String::new();
        }
        let (bodies, _) = self.gpu_bytes(weights).unwrap_or_default();
        let word = if self.element() == "u32" {
            "NAME[at]"
        } else {
            "NAME[at / 4u][at % 4u]"
        };
        include_str!("scale.wgsl")
            .replace("SCALES_AT", &format!("{}u", bodies / 4))
            .replace("WORD", word)
            .replace("NAME", name)
    }

    const fn load_text(self) -> &'static str {
        match self {
            Self::F32 => include_str!("float32.wgsl"),
            Self::F16 => include_str!("float16.wgsl"),
            Self::BF16 => include_str!("bfloat16.wgsl"),
            Self::Q4_0 => include_str!("q4_0.wgsl"),
            Self::Q4_1 => include_str!("q4_1.wgsl"),
            Self::Q5_0 => include_str!("q5_0.wgsl"),
            Self::Q5_1 => include_str!("q5_1.wgsl"),
            Self::Q8_0 => include_str!("q8_0.wgsl"),
            Self::Q4K => include_str!("q4_k.wgsl"),
            Self::Q5K => include_str!("q5_k.wgsl"),
            Self::Q6K => include_str!("q6_k.wgsl"),
        }
    }
}

/// What all types' functions share: the structure of 32 weights, and how bits become numbers.
pub const WEIGHTS_WGSL: &str = include_str!("weights.wgsl");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_split_without_losing_a_byte_whatever_the_chunks() {
        for kind in QuantType::ALL {
            let quant = kind.quant();
            let file: Vec<_> = (0..=255u8).cycle().take(6 * quant.block_bytes).collect();
            let (mut bodies, mut scales) = (Vec::new(), Vec::new());
            let (first, second) = file.split_at(quant.block_bytes);
            for chunk in [first, second] {
                let split = kind.split(chunk, &mut bodies, &mut scales);
                split.expect("whole blocks");
            }
            let Layout {
                body_words,
                has_scales,
            } = kind.layout();
            assert_eq!(bodies.len() + scales.len(), file.len(), "{kind:?}");
            assert_eq!(scales.len(), if has_scales { 12 } else { 0 });
            let weights = quant.block_weights.max(32);
            let words = kind.bytes(weights).expect("whole") - if has_scales { 2 } else { 0 };
            assert_eq!(words, body_words as usize * 4, "{kind:?}");
        }
    }

    #[test]
    fn a_scale_is_where_its_type_has_it() {
        let split = |kind: QuantType, block: &[u8]| {
            let (mut bodies, mut scales) = (Vec::new(), Vec::new());
            let split = kind.split(block, &mut bodies, &mut scales);
            split.expect("a block");
            (bodies, scales)
        };
        let block: Vec<u8> = (0..34).collect();
        let (bodies, scales) = split(QuantType::Q8_0, &block);
        assert_eq!((&*bodies, &*scales), (&block[2..], &block[..2]));
        let block: Vec<u8> = (0..210).collect();
        let (bodies, scales) = split(QuantType::Q6K, &block);
        assert_eq!((&*bodies, &*scales), (&block[..208], &block[208..]));
    }

    #[test]
    fn buffers_are_as_large_as_what_lies_in_the_file_up_to_whole_vectors() {
        assert_eq!(QuantType::Q4_0.gpu_bytes(64), Some((32, 16)));
        assert_eq!(QuantType::Q5_0.gpu_bytes(32 * 9), Some((192, 32)));
        assert_eq!(QuantType::Q4_1.gpu_bytes(32), Some((32, 0)));
        assert_eq!(QuantType::Q6K.gpu_bytes(512), Some((416, 16)));
        assert_eq!(QuantType::F16.gpu_bytes(3), Some((16, 0)));
        assert_eq!(QuantType::Q4_0.gpu_bytes(33), None);
        assert_eq!(QuantType::F32.gpu_bytes(u64::MAX / 2), None);
    }

    #[test]
    fn half_a_block_is_refused() {
        let split = QuantType::Q4_0.split(&[0; 27], &mut Vec::new(), &mut Vec::new());
        assert!(split.is_err());
    }
}
