//! The engine for WebGPU in a browser's dedicated worker: what the worker's JavaScript may ask of it.
//!
//! ```text
//! page ──message──▶ worker/worker.js ──▶ engine (wasm) ──▶ webgpu-engine ──▶ the browser's WebGPU
//!                        └─ fetch ──ReadableStream──▶ stream: a piece at a time
//! ```
//!
//! What it is not: it decides nothing about jobs and opens no socket. Answers and events cross to JavaScript as JSON,
//! whose shapes are in [`request`] and [`report`]; [`turn`] keeps calls apart, [`cancel`] ends them; everything else here
//! exists in wasm only.

pub mod cancel;
pub mod report;
pub mod request;
pub mod turn;

#[cfg(target_arch = "wasm32")]
mod engine;
#[cfg(target_arch = "wasm32")]
mod heap;
#[cfg(target_arch = "wasm32")]
mod stream;

#[cfg(target_arch = "wasm32")]
pub use engine::{Engine, every_kernel};
