//! How near two engines' logits are, row by row, in 64 bits. Nothing of a row is kept.

use anyhow::{Result, ensure};
use serde::Serialize;

/// What came of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Agreement {
    /// The share of positions where both find the same token likeliest; of equals the first counts.
    pub(crate) top1: f64,
    /// The mean of KL(truth ‖ found), in nats.
    pub(crate) kl: f64,
    /// The largest of them.
    pub(crate) kl_max: f64,
    /// How many positions were compared.
    pub(crate) positions: u32,
}

/// A comparison that goes on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Comparison {
    positions: u32,
    same: u32,
    divergence: f64,
    divergence_max: f64,
}

impl Comparison {
    /// Compares the logits of one position. Refuses rows of different lengths, and numbers that are none.
    pub(crate) fn add(&mut self, truth: &[f32], found: &[f32]) -> Result<()> {
        ensure!(
            truth.len() == found.len(),
            "position {}: {} logits instead of {}",
            self.positions,
            found.len(),
            truth.len()
        );
        let (first, second) = (Peak::of(truth), Peak::of(found));
        let divergence = divergence(truth, first.logit, found, second.logit);
        ensure!(
            divergence.is_finite(),
            "position {}: a logit is no finite number",
            self.positions
        );
        self.positions += 1;
        self.same += u32::from(first.token == second.token);
        self.divergence += divergence;
        self.divergence_max = self.divergence_max.max(divergence);
        Ok(())
    }

    /// What has come of it so far.
    pub(crate) fn agreement(&self) -> Agreement {
        let positions = f64::from(self.positions.max(1));
        Agreement {
            top1: f64::from(self.same) / positions,
            kl: self.divergence / positions,
            kl_max: self.divergence_max,
            positions: self.positions,
        }
    }
}

/// The likeliest token of a row.
struct Peak {
    token: usize,
    logit: f32,
}

impl Peak {
    fn of(row: &[f32]) -> Self {
        let none = Self {
            token: usize::MAX,
            logit: f32::NEG_INFINITY,
        };
        let logits = row.iter().copied().enumerate();
        logits.fold(none, |peak, (token, logit)| {
            if logit > peak.logit {
                Self { token, logit }
            } else {
                peak
            }
        })
    }
}

/// KL(truth ‖ found) of two rows of logits whose largest are known.
///
/// With p = exp(t − most) / sum: Σ p (log p − log q) = Σ p (t − f) − log Σ exp t + log Σ exp f.
fn divergence(truth: &[f32], truth_most: f32, found: &[f32], found_most: f32) -> f64 {
    let (truth_most, found_most) = (f64::from(truth_most), f64::from(found_most));
    let (mut truth_sum, mut found_sum, mut between) = (0.0, 0.0, 0.0);
    for (&truth, &found) in truth.iter().zip(found) {
        let (truth, found) = (f64::from(truth) - truth_most, f64::from(found) - found_most);
        let weight = truth.exp();
        truth_sum += weight;
        found_sum += found.exp();
        between += weight * (truth - found);
    }
    between / truth_sum - truth_sum.ln() + found_sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreement(rows: &[(&[f32], &[f32])]) -> Agreement {
        let mut comparison = Comparison::default();
        for (truth, found) in rows {
            comparison.add(truth, found).unwrap();
        }
        comparison.agreement()
    }

    /// Logits of these probabilities, moved: a row means the same whatever is added to all of it.
    fn row(probabilities: &[f32], moved: f32) -> Vec<f32> {
        let logits = probabilities.iter().map(|it| it.ln() + moved);
        logits.collect()
    }

    #[test]
    fn divergence_is_that_of_the_probabilities_whatever_the_rows_are_moved_by() {
        let (truth, found) = (row(&[0.5, 0.25, 0.25], 80.0), row(&[0.25, 0.25, 0.5], -3.0));
        let found = agreement(&[(&truth, &found)]);
        // 0.5 ln 2 + 0 + 0.25 ln ½
        let expected = 0.25 * 2f64.ln();
        assert!((found.kl - expected).abs() < 1e-5, "{found:?}");
        assert!((found.kl_max - expected).abs() < 1e-5, "{found:?}");
        assert_eq!((found.top1, found.positions), (0.0, 1));
    }

    #[test]
    fn divergence_is_from_truth_to_what_was_found_and_not_back() {
        let (one, other) = (row(&[0.9, 0.1], 0.0), row(&[0.5, 0.5], 0.0));
        let expected = 0.9 * 1.8f64.ln() + 0.1 * 0.2f64.ln();
        let found = agreement(&[(&one, &other)]);
        assert!((found.kl - expected).abs() < 1e-6, "{found:?}");
        let back = agreement(&[(&other, &one)]);
        assert!((back.kl - expected).abs() > 0.1, "{back:?}");
    }

    #[test]
    fn the_same_rows_agree_exactly_and_the_first_of_equals_is_the_likeliest() {
        let row = [1.0, 7.5, 7.5, -2.0];
        let found = agreement(&[(&row, &row), (&row, &row)]);
        assert_eq!((found.top1, found.positions), (1.0, 2));
        assert!(found.kl.abs() < 1e-12, "{found:?}");
        let later = [1.0, 7.4, 7.5, -2.0];
        assert!(agreement(&[(&row, &later)]).top1 < 0.1);
    }

    #[test]
    fn shares_and_means_are_of_all_positions_and_the_largest_is_kept() {
        let (even, one, other) = ([0.0, 0.0], row(&[0.9, 0.1], 0.0), row(&[0.1, 0.9], 0.0));
        let found = agreement(&[
            (&even, &even),
            (&one, &one),
            (&one, &other),
            (&other, &other),
        ]);
        assert_eq!((found.top1, found.positions), (0.75, 4));
        assert!((found.kl - found.kl_max / 4.0).abs() < 1e-12, "{found:?}");
        assert!((found.kl_max - 0.8 * 9f64.ln()).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn a_small_difference_is_not_lost_among_many_tokens() {
        // A ten-thousandth of a logit that has most of the probability.
        let mut truth = vec![0.0; 262_144];
        truth[77] = 14.0;
        let mut found = truth.clone();
        found[77] = 14.001;
        let agreement = agreement(&[(&truth, &found)]);
        // d² / 2 times the variance p (1 − p).
        let step = f64::from(found[77]) - f64::from(truth[77]);
        let share = 14f64.exp() / (14f64.exp() + 262_143.0);
        let expected = step * step / 2.0 * share * (1.0 - share);
        assert!(
            (agreement.kl / expected - 1.0).abs() < 0.01,
            "{agreement:?} {expected}"
        );
    }

    #[test]
    fn rows_of_other_lengths_and_numbers_that_are_none_are_refused() {
        let mut comparison = Comparison::default();
        assert!(comparison.add(&[0.0, 1.0], &[0.0]).is_err());
        assert!(comparison.add(&[0.0, 1.0], &[0.0, f32::NAN]).is_err());
        assert!(comparison.add(&[0.0, 1.0], &[0.0, f32::INFINITY]).is_err());
        assert!(comparison.add(&[f32::NAN, 1.0], &[0.0, 1.0]).is_err());
        assert_eq!(comparison.agreement(), Agreement::default());
    }
}
