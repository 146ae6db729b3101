//! Activations in 8 bits for products of whole numbers (`dot4I8Packed`), as ggml's `Q8_1` has them.
//!
//! A vector lies in groups of 32 numbers, each three `vec4<u32>` of a buffer `array<vec4<u32>>`:
//!
//! ```text
//! word 0..8    the whole numbers q, four in a word, the first in the lowest byte
//! word 8       scale, an f32: a number is scale · q, and the one farthest from zero has q = ±127
//! word 9, 10   scale · Σ q of the first and of the other sixteen, f32: what a weight's minimum is multiplied by
//! word 11      0
//! ```
//!
//! Vectors of several tokens follow one another. Who writes them, so that a layer stays within ten dispatches:
//!
//! | product | its input is packed by |
//! |---|---|
//! | q, k, v; gate, up | `add_norm`, with [`WGSL`] |
//! | o | nobody: it reads the floats of `merge` |
//! | logits | nobody: rounding states here changes most which token is likeliest |
//! | down | [`Pack`], the tenth dispatch, behind the gated product |

use super::Step;
use super::product::text::{Inner, Load};
use super::product::{Matrix, Numbers, Product, Reduce, Tokens, Variant};
use crate::gpu::{Access, Source};
use crate::quant::{QuantType, WEIGHTS_WGSL, packed_weights_wgsl};

/// Numbers with a scale of their own.
pub const GROUP: u32 = 32;

/// `vec4<u32>` of a group.
pub const GROUP_VECTORS: u32 = 3;

/// `pack32` of eight vectors of floats: a structure with the three vectors of a group (`numbers_low`, `numbers_high`,
/// `about`). Needs [`crate::gpu::Abilities::has_packed_dot`].
pub const WGSL: &str = "struct Packed32 {
    numbers_low: vec4<u32>,
    numbers_high: vec4<u32>,
    about: vec4<u32>,
}
fn pack32(
    x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>,
    x4: vec4<f32>, x5: vec4<f32>, x6: vec4<f32>, x7: vec4<f32>,
) -> Packed32 {
    let low = max(max(abs(x0), abs(x1)), max(abs(x2), abs(x3)));
    let high = max(max(abs(x4), abs(x5)), max(abs(x6), abs(x7)));
    let both = max(low, high);
    let most = max(max(both.x, both.y), max(both.z, both.w));
    let inverse = 127.0 / max(most, 1e-35);
    let scale = most / 127.0;
    let q0 = vec4<i32>(round(x0 * inverse));
    let q1 = vec4<i32>(round(x1 * inverse));
    let q2 = vec4<i32>(round(x2 * inverse));
    let q3 = vec4<i32>(round(x3 * inverse));
    let q4 = vec4<i32>(round(x4 * inverse));
    let q5 = vec4<i32>(round(x5 * inverse));
    let q6 = vec4<i32>(round(x6 * inverse));
    let q7 = vec4<i32>(round(x7 * inverse));
    let ones = vec4<i32>(1);
    let sum_low = f32(dot(q0 + q1 + q2 + q3, ones)) * scale;
    let sum_high = f32(dot(q4 + q5 + q6 + q7, ones)) * scale;
    return Packed32(
        vec4<u32>(pack4xI8(q0), pack4xI8(q1), pack4xI8(q2), pack4xI8(q3)),
        vec4<u32>(pack4xI8(q4), pack4xI8(q5), pack4xI8(q6), pack4xI8(q7)),
        bitcast<vec4<u32>>(vec4<f32>(scale, sum_low, sum_high, 0.0)),
    );
}
";

/// Bytes of so many vectors of so many numbers.
pub const fn bytes(inputs: u32, vectors: u32) -> u64 {
    let groups = inputs.div_ceil(GROUP) as u64;
    groups * GROUP_VECTORS as u64 * 16 * vectors as u64
}

/// Packs the vectors of a step's tokens.
///
/// Bindings: the floats (read), the packed vectors (write). All tokens of the step, from the buffers' starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// What it is called in messages.
    pub label: String,
    /// Numbers of a vector: whole groups.
    pub inputs: u32,
}

/// Threads of a workgroup: one for each group of numbers.
const THREADS: u32 = 64;

impl Pack {
    /// Its text.
    pub fn source(&self) -> Source {
        let groups = self.inputs / GROUP;
        let wgsl = format!(
            "{step}{WGSL}const GROUPS: u32 = {groups}u;
@group(0) @binding(0) var<storage, read> floats: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> packed: array<vec4<u32>>;
@group(0) @binding(2) var<uniform> step: Step;
@compute @workgroup_size({THREADS})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
    if (id.x >= GROUPS || id.y >= step.tokens) {{
        return;
    }}
    let group = id.y * GROUPS + id.x;
    let source = group * 8u;
    let whole = pack32(
        floats[source], floats[source + 1u], floats[source + 2u], floats[source + 3u],
        floats[source + 4u], floats[source + 5u], floats[source + 6u], floats[source + 7u],
    );
    let to = group * {GROUP_VECTORS}u;
    packed[to] = whole.numbers_low;
    packed[to + 1u] = whole.numbers_high;
    packed[to + 2u] = whole.about;
}}
",
            step = Step::WGSL,
        );
        Source {
            label: self.label.clone(),
            wgsl,
            storage: vec![Access::Read, Access::Write],
        }
    }

    /// Workgroups for so many tokens.
    pub const fn groups(&self, tokens: u32) -> [u32; 3] {
        [(self.inputs / GROUP).div_ceil(THREADS), tokens, 1]
    }
}

/// How products read packed states. Whole numbers are multiplied as such; where a matrix has none (F32, F16, BF16), it
/// and those of the same dispatch are multiplied as floats, with the states made floats again.
pub(super) fn inner(matrices: &[Matrix]) -> Inner {
    let mut kinds = matrices.iter().map(|matrix| matrix.kind);
    let has_halves = kinds.clone().any(QuantType::has_halves);
    let (load, weights, multiply) = if !kinds.all(QuantType::has_integers) {
        (
            Load::Floats,
            String::new(),
            include_str!("packed/floats.wgsl"),
        )
    } else if has_halves {
        (
            Load::Integers,
            packed_weights_wgsl(true),
            include_str!("packed/two_scales.wgsl"),
        )
    } else {
        (
            Load::Integers,
            packed_weights_wgsl(false),
            include_str!("packed/one_scale.wgsl"),
        )
    };
    let inputs = include_str!("packed/inputs.wgsl");
    Inner {
        element: "vec4<u32>",
        wgsl: format!("{WEIGHTS_WGSL}{weights}{inputs}{multiply}"),
        load,
    }
}

/// Packing, and products of each type and of types together, to be compiled by tests.
pub(super) fn every() -> Vec<Source> {
    let pack = Pack {
        label: "pack".to_owned(),
        inputs: 576,
    };
    let product = |kinds: &[QuantType], lanes, columns| {
        let matrices = kinds.iter().map(|kind| Matrix {
            kind: *kind,
            rows: 576,
        });
        let product = Product {
            label: format!("packed product {kinds:?}"),
            matrices: matrices.collect(),
            inputs: 1536,
            has_bias: false,
            gated: None,
            soft_cap: None,
            output_first: 0,
            output_stride: 1728,
            tokens: Tokens::All,
        };
        let variant = Variant {
            lanes,
            rows: 1,
            columns,
            reduce: Reduce::Memory,
            numbers: Numbers::PackedDot,
        };
        product.source(variant, &super::all_abilities())
    };
    let alone = QuantType::ALL.map(|kind| product(&[kind], 1, 4));
    let together = [
        product(&[QuantType::Q4K, QuantType::Q6K, QuantType::Q5_0], 16, 1),
        product(&[QuantType::Q4K, QuantType::F16], 64, 2),
    ];
    [pack.source()]
        .into_iter()
        .chain(alone)
        .chain(together)
        .collect()
}

#[cfg(test)]
mod tests;
