//! Language models in GGUF files, run by WGSL kernels of our own on `wgpu`: as wasm32 in a browser's worker and
//! natively on Vulkan or Metal.
//!
//! ```text
//! bytes of the file ─▶ gguf (header) ─▶ model (config, or a reason to refuse) ─▶ quant (how weights lie) ─▶ kernels
//! ```
//!
//! Dependencies point one way, from `run` over `model`, `kernels`, `gpu`, `quant` and `tokenizer` to `gguf`. What it is
//! not: it fetches nothing, reads no file and has no clock; the caller brings the bytes.

pub mod gpu;
pub mod kernels;
pub mod model;
pub mod plan;
pub mod quant;
pub mod reference;
pub mod run;
pub mod tokenizer;

pub use gguf;
