//! What every kernel must compute: plain Rust on the CPU, clear before fast. And the whole model made of it, which is
//! compared with llama.cpp (`node-container/tests/engine/reference.rs`), so that what agrees with this agrees with that.
//!
//! ```text
//! tokens ─▶ embedding ─▶ layers (norm, products, rope, attention; norm, gated activation) ─▶ norm ─▶ logits ─▶ sampling
//! ```
//!
//! Numbers are 32-bit floats as in the kernels. Only sums of norms and of softmax and the angles of turns are made in 64
//! bits. What it is not: a way to run models; it computes on one thread.
//!
//! Vectors of several tokens lie one after another in one slice.

pub mod activation;
pub mod attention;
mod model;
pub mod norm;
pub mod packed;
pub mod product;
pub mod rope;

pub use attention::Attention;
pub use model::{LoadError, Model, ReadError, Session};
pub use product::Matrix;
/// How tokens are drawn, which is the same for every engine.
pub use sampling;

#[cfg(test)]
pub(crate) mod tests;
