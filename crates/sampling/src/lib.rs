//! Which token comes next: from a row of logits to a draw.
//!
//! ```text
//! logits ─▶ biases ─▶ penalties ─▶ top_k ─▶ top_p ─▶ min_p ─▶ temperature ─▶ draw
//! └──────────────────────── Selection ───────────────────────┘              Randomness
//! ```
//!
//! Order and rules are llama.cpp's. Every engine uses these, so that who goes on with another's answer draws what that
//! one would have drawn from the same logits. What it is not: it knows no model, no vocabulary and no grammar, and has
//! neither a state of randomness nor a clock; a seed is an argument.

mod probability;
mod randomness;
mod rules;
mod select;

pub use probability::{log_probability, log_sum};
pub use randomness::{Randomness, draw};
pub use rules::{Candidate, GREEDY_BELOW, Rules};
pub use select::Selection;

#[cfg(test)]
mod tests;
