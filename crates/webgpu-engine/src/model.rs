//! What a header means for running the model: its hyper-parameters, the tensors that it must have, and the memory that
//! it needs; or the reason why it cannot be run. All of it before a byte of the weights is asked for.
//!
//! Where a file does not say something, llama.cpp's answer counts (`llama_model_base::load_hparams` and `src/models/`),
//! since files are made for it and it is what the numbers are compared with.

mod config;
mod keys;
mod memory;
mod refusal;
mod rope;
mod tensors;
mod turns;

pub use config::{Activation, Architecture, Biases, Config, Window};
pub use memory::{
    CacheType, DECODE_SPLIT_TOKENS, Demand, Lengths, MemoryNeed, TooLarge, kept_bytes, kept_tokens,
    largest_buffer, prefill_split_tokens,
};
pub use refusal::Refusal;
pub use rope::{Pairs, Rope, RopeScaling};
pub use tensors::{LayerPart, ModelTensor};
pub use turns::Turns;

#[cfg(test)]
mod tests;
