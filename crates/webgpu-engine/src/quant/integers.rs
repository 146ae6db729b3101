//! The WGSL that gives weights as the whole numbers that their types store: `packed32_NAME(block) -> P32`, for products
//! of whole numbers with activations in 8 bits. Beside the functions that give floats (`layout.rs`), by the same layout.

use super::QuantType;

/// The structure of 32 weights, once for all functions of a text. Without halves a group of 32 has one scale; with them
/// each sixteen have one, which types that need it demand of all others in the same text.
///
/// Behind [`super::WEIGHTS_WGSL`].
pub fn packed_weights_wgsl(has_halves: bool) -> String {
    let scale = if has_halves { "vec2<f32>" } else { "f32" };
    format!("alias Scale = {scale};\n{}", include_str!("packed.wgsl"))
}

impl QuantType {
    /// Whether its weights are whole numbers with scales. Others are multiplied as floats.
    pub const fn has_integers(self) -> bool {
        self.packed_text().is_some()
    }

    /// Whether sixteen weights have a scale of their own.
    pub const fn has_halves(self) -> bool {
        match self {
            Self::Q6K => true,
            Self::F32
            | Self::F16
            | Self::BF16
            | Self::Q4_0
            | Self::Q4_1
            | Self::Q5_0
            | Self::Q5_1
            | Self::Q8_0
            | Self::Q4K
            | Self::Q5K => false,
        }
    }

    /// The function `packed32_NAME` for a buffer of this name with so many weights; none where they are no integers.
    pub fn packed_wgsl(self, name: &str, weights: u64) -> Option<String> {
        let text = self.packed_text()?;
        Some(format!("{}{text}", self.scale_wgsl(name, weights)).replace("NAME", name))
    }

    const fn packed_text(self) -> Option<&'static str> {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => None,
            Self::Q4_0 => Some(include_str!("q4_0_packed.wgsl")),
            Self::Q4_1 => Some(include_str!("q4_1_packed.wgsl")),
            Self::Q5_0 => Some(include_str!("q5_0_packed.wgsl")),
            Self::Q5_1 => Some(include_str!("q5_1_packed.wgsl")),
            Self::Q8_0 => Some(include_str!("q8_0_packed.wgsl")),
            Self::Q4K => Some(include_str!("q4_k_packed.wgsl")),
            Self::Q5K => Some(include_str!("q5_k_packed.wgsl")),
            Self::Q6K => Some(include_str!("q6_k_packed.wgsl")),
        }
    }
}
