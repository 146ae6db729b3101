//! The shape of a picture encoder (`mmproj`), out of its own file.

use std::io::Read;

use gguf::Metadata;

use super::{HeaderError, number, parse, parser};

/// Encoders that bring every picture, or each piece of one, to the same size, and are plain vision transformers: CLIP
/// as in `LLaVA`, and `SigLIP` as in Gemma 3 and `SmolVLM`.
const PLAIN: [&str; 3] = ["mlp", "gemma3", "idefics3"];

/// Sides beyond those of every real encoder, in pixels.
const SIDE_MAX: u64 = 16_384;

/// What decides how much memory a picture takes while it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoder {
    /// Pixels of one side.
    pub image_side: u64,
    /// Pixels of one side of a patch.
    pub patch_side: u64,
    /// Numbers that stand for one patch between layers.
    pub width: u64,
    /// Numbers within a layer.
    pub feed_forward: u64,
    /// Numbers that stand for a token of the language model, where every patch becomes one; else 0.
    pub projection: u64,
}

/// Reads the header of an encoder; `None` where it is of another kind, whose pictures have many sizes. Its tensors say
/// nothing of this: a fault among them is left to the loader.
pub fn read_encoder(file: impl Read) -> Result<Option<Encoder>, HeaderError> {
    let mut parser = parser();
    match parse(file, &mut parser) {
        Ok(header) => Ok(encoder(&header.metadata)),
        Err(error) => parser.metadata().map(encoder).ok_or(error),
    }
}

fn encoder(metadata: &Metadata) -> Option<Encoder> {
    let text = |key: &str| metadata.text(key).ok().flatten();
    let kind = text("clip.projector_type").or_else(|| text("clip.vision.projector_type"))?;
    let number = |name: &str| {
        let number = number(metadata, &format!("clip.vision.{name}"));
        number.filter(|number| *number > 0)
    };
    let side = |name: &str| number(name).filter(|side| *side <= SIDE_MAX);
    let encoder = Encoder {
        image_side: side("image_size")?,
        patch_side: side("patch_size")?,
        width: number("embedding_length")?,
        feed_forward: number("feed_forward_length")?,
        projection: if kind == "mlp" {
            number("projection_dim")?
        } else {
            0
        },
    };
    PLAIN.contains(&kind).then_some(encoder)
}
