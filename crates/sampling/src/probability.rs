//! How likely the model has a token: the softmax of its raw logits, before any rule.

/// `ln Σ e^xᵢ`: a token's log-probability is its logit less this.
pub fn log_sum(row: &[f32]) -> f64 {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|logit| f64::from(logit - most).exp()).sum();
    f64::from(most) + sum.ln()
}

/// The natural logarithm of a token's probability; none where the row has no such token.
pub fn log_probability(row: &[f32], token: u32) -> Option<f64> {
    let logit = row.get(usize::try_from(token).ok()?)?;
    Some(f64::from(*logit) - log_sum(row))
}
