//! What is done to each number by itself.

use crate::model::Activation;

/// `√(2/π)`.
const SQRT_2_OVER_PI: f32 = 0.797_884_6;

/// The share of the cube in GELU's approximation.
const CUBE: f32 = 0.044_715;

/// `x · sigmoid(x) = x / (1 + e⁻ˣ)` (Elfwing and others, 2017).
pub fn silu(number: f32) -> f32 {
    number / (1.0 + (-number).exp())
}

/// `x/2 · (1 + tanh(√(2/π) · (x + 0.044715·x³)))` (Hendrycks and Gimpel, 2016). llama.cpp looks it up on the CPU in a
/// table of 16-bit floats, which is less exact.
pub fn gelu(number: f32) -> f32 {
    let inner = SQRT_2_OVER_PI * number * (1.0 + CUBE * number * number);
    0.5 * number * (1.0 + inner.tanh())
}

/// `activation(gate) · up` (Shazeer, 2020), into `gates`.
pub fn gated(activation: Activation, gates: &mut [f32], ups: &[f32]) {
    for (gate, up) in gates.iter_mut().zip(ups) {
        *gate = up
            * match activation {
                Activation::Silu => silu(*gate),
                Activation::Gelu => gelu(*gate),
            };
    }
}

/// `cap · tanh(x / cap)` (Gemma 2): nearly `x` where that is small, never beyond the cap.
pub fn soft_cap(number: f32, cap: f32) -> f32 {
    cap * (number / cap).tanh()
}

/// Adds what a step gives to what goes on between the steps (residuals), or a bias to each of several vectors.
pub fn add(vectors: &mut [f32], others: &[f32]) {
    for vector in vectors.chunks_mut(others.len().max(1)) {
        for (number, other) in vector.iter_mut().zip(others) {
            *number += other;
        }
    }
}
