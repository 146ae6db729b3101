//! Small weights made from a seed. **Seeded weights, not a trained model**: what they see means nothing, but every
//! step from pixels to numbers is the real one, and anybody can compute what must come out.

pub mod family;
pub mod language;

use crate::{GgufWriter, ShapeMismatch, Value};

/// The shape of an image encoder in the manner of CLIP with `LLaVA`'s two-layer projector (`clip`, `mlp`), without a
/// class token, which nobody would look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Projector {
    /// Side of the square that images are brought to, in pixels.
    pub image_side: u32,
    /// Side of one patch, in pixels. One patch becomes one token.
    pub patch_side: u32,
    /// Numbers per patch inside of the encoder.
    pub width: u32,
    /// Attention heads.
    pub heads: u32,
    /// Width of the feed-forward layers.
    pub feed_forward: u32,
    /// Layers in the file. `LLaVA` leaves the last one out.
    pub layers: u32,
    /// Width of the language model's embeddings.
    pub text_width: u32,
}

impl Projector {
    /// One that fits SmolLM2-135M: 16 tokens per image, 1.5 MB.
    pub const SMOLLM2: Self = Self {
        image_side: 56,
        patch_side: 14,
        width: 32,
        heads: 2,
        feed_forward: 64,
        layers: 3,
        text_width: 576,
    };

    /// Added to the squares of norms, so that nothing is divided by zero.
    pub const NORM_EPSILON: f32 = 1e-5;

    /// What colours are brought to: `(colour / 255 - MEAN) / DEVIATION`, the same for red, green and blue.
    pub const MEAN: f32 = 0.5;
    /// See [`Projector::MEAN`].
    pub const DEVIATION: f32 = 0.25;

    /// Tokens that one image becomes.
    pub const fn tokens(&self) -> u32 {
        let side = self.image_side / self.patch_side;
        side * side
    }

    /// The file's content, for `--projector`.
    pub fn write(&self, seed: u64) -> Result<GgufWriter, ShapeMismatch> {
        let mut writer = GgufWriter::default();
        self.metadata(&mut writer);
        let mut draw = Draw(seed);
        let (width, hidden) = (u64::from(self.width), u64::from(self.feed_forward));
        let (patch, text) = (u64::from(self.patch_side), u64::from(self.text_width));
        let positions = u64::from(self.tokens());
        let mut add = |name: String, shape: &[u64], around: f32, spread: f32| {
            let values = draw.values(shape.iter().product(), around, spread);
            writer.tensor(&name, shape, values)
        };
        // Spreads keep every layer's numbers near 1.
        let pixels = [patch, patch, 3, width];
        add("v.patch_embd.weight".to_owned(), &pixels, 0.0, 0.1)?;
        let places = [width, positions];
        add("v.position_embd.weight".to_owned(), &places, 0.0, 0.5)?;
        for part in ["v.pre_ln", "v.post_ln"] {
            add(format!("{part}.weight"), &[width], 1.0, 0.2)?;
            add(format!("{part}.bias"), &[width], 0.0, 0.2)?;
        }
        for layer in 0..self.layers {
            for part in ["ln1", "ln2"] {
                add(format!("v.blk.{layer}.{part}.weight"), &[width], 1.0, 0.2)?;
                add(format!("v.blk.{layer}.{part}.bias"), &[width], 0.0, 0.2)?;
            }
            for (part, from, to) in [
                ("attn_q", width, width),
                ("attn_k", width, width),
                ("attn_v", width, width),
                ("attn_out", width, width),
                ("ffn_up", width, hidden),
                ("ffn_down", hidden, width),
            ] {
                add(
                    format!("v.blk.{layer}.{part}.weight"),
                    &[from, to],
                    0.0,
                    0.3,
                )?;
                add(format!("v.blk.{layer}.{part}.bias"), &[to], 0.0, 0.2)?;
            }
        }
        // The language model's own embeddings are this small.
        add("mm.0.weight".to_owned(), &[width, text], 0.0, 0.3)?;
        add("mm.0.bias".to_owned(), &[text], 0.0, 0.2)?;
        add("mm.2.weight".to_owned(), &[text, text], 0.0, 0.02)?;
        add("mm.2.bias".to_owned(), &[text], 0.0, 0.02)?;
        Ok(writer)
    }

    fn metadata(&self, writer: &mut GgufWriter) {
        let text = |text: &str| Value::Text(text.to_owned());
        writer.set("general.architecture", text("clip"));
        writer.set("general.name", text("seeded weights, not a trained model"));
        writer.set("clip.has_vision_encoder", Value::Bool(true));
        writer.set("clip.projector_type", text("mlp"));
        writer.set("clip.use_gelu", Value::Bool(true));
        for (key, value) in [
            ("image_size", self.image_side),
            ("patch_size", self.patch_side),
            ("embedding_length", self.width),
            ("feed_forward_length", self.feed_forward),
            ("block_count", self.layers),
            ("projection_dim", self.text_width),
            ("attention.head_count", self.heads),
        ] {
            writer.set(&format!("clip.vision.{key}"), Value::U32(value));
        }
        let epsilon = Value::F32(Self::NORM_EPSILON);
        writer.set("clip.vision.attention.layer_norm_epsilon", epsilon);
        let (mean, deviation) = (vec![Self::MEAN; 3], vec![Self::DEVIATION; 3]);
        writer.set("clip.vision.image_mean", Value::F32s(mean));
        writer.set("clip.vision.image_std", Value::F32s(deviation));
    }
}

/// Numbers from a seed: Steele and Vigna's `SplitMix64`.
#[derive(Debug)]
struct Draw(u64);

impl Draw {
    /// So many numbers, `around` one and at most `spread` away from it.
    fn values(&mut self, count: u64, around: f32, spread: f32) -> Vec<f32> {
        (0..count)
            .map(|_| around + spread * self.signed())
            .collect()
    }

    /// From -1 to 1, in steps of 2⁻²³.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a number of 24 bits is one that f32 has"
    )]
    fn signed(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_file_and_another_another() {
        let make = |seed| Projector::SMOLLM2.write(seed).expect("fits").to_bytes();
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
    }
}
