//! The norm by the root of the mean square (Zhang and Sennrich, `RMSNorm`).

/// `x · weight / √(mean(x²) + ε)` for each vector of `weights.len()` numbers.
///
/// Gemma's formula has `1 + weight`; its files hold that sum already. The norms of heads are the same over shorter
/// vectors. As in ggml, squares are summed in 64 bits.
pub fn rms_norm(vectors: &mut [f32], weights: &[f32], epsilon: f32) {
    for vector in vectors.chunks_mut(weights.len().max(1)) {
        let squares: f64 = vector.iter().map(|number| f64::from(number * number)).sum();
        let scale = 1.0 / (mean(squares, vector.len()) + epsilon).sqrt();
        for (number, weight) in vector.iter_mut().zip(weights) {
            *number = *number * scale * weight;
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "vectors are short, and ggml goes on in 32 bits, too"
)]
fn mean(sum: f64, count: usize) -> f32 {
    (sum / count as f64) as f32
}
