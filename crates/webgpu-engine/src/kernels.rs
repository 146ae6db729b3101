//! The kernels: WGSL texts by role, made for the shapes of a model and for what the adapter can do. Each is held against
//! the CPU's [`crate::reference`] by tests on the adapter that is here, and compiled by a browser in the tests.
//!
//! ```text
//! embed, add_norm │ per layer: product (q,k,v) → rope_keep → attend → merge → product (o) → add_norm
//!                 │            → product (gate, up) → product (down) → add_norm │ product (head) → sampling
//! ```
//!
//! Shapes are constants of the text, so that loops are known to the compiler and a pipeline exists for each shape; what
//! changes from step to step is in [`Step`], the last binding of every kernel.

mod attention;
pub mod embed;
mod norm;
pub mod packed;
pub mod product;
mod rope_keep;
mod sampling;
mod step;
mod tiled;
mod total;

pub use attention::Attend;
pub use embed::Embed;
pub use norm::AddNorm;
pub use packed::Pack;
pub use product::{Matrix, Numbers, Product, Reduce, Tokens, Variant};
pub use rope_keep::RopeKeep;
pub use sampling::{
    ALTERNATIVES_MAX, RECORD_WORDS, RECORDS, Record, Sampling, SamplingBuffer, SamplingMethod,
    SamplingStage, Told,
};
pub use step::{Flags, STEP_BYTES, Step};
pub use tiled::{TILE_TOKENS, Tile};

/// Kernels of all roles, types and variants, and those that ask a device something, for tests that compile them.
pub fn every() -> Vec<crate::gpu::Source> {
    [
        crate::gpu::every(),
        attention::every(),
        embed::every(),
        norm::every(),
        packed::every(),
        product::every(),
        rope_keep::every(),
        sampling::every(),
        tiled::every(),
    ]
    .concat()
}

/// Those of an adapter that has all that kernels have variants for.
const fn all_abilities() -> crate::gpu::Abilities {
    crate::gpu::Abilities {
        adapter: String::new(),
        driver: String::new(),
        is_software: false,
        binding_bytes_max: 128 << 20,
        has_subgroups: true,
        subgroup_threads: 4,
        has_packed_dot: true,
        has_half: true,
        workgroup_bytes: 16 << 10,
        workgroup_threads: 256,
    }
}

#[cfg(test)]
mod tests;
