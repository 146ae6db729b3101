//! The same rules written plainly: everything copied, everything sorted. What [`Selection`](crate::Selection) is
//! compared with.

use std::collections::BTreeMap;

use crate::{Candidate, Rules};

/// As [`Rules::candidates`].
pub(super) fn candidates(
    rules: &Rules,
    row: &[f32],
    counts: &BTreeMap<u32, u32>,
) -> Vec<Candidate> {
    let row = corrected(rules, row, counts);
    let all = (0u32..).zip(row.iter().copied());
    let possible = all.filter(|(_, logit)| *logit > f32::NEG_INFINITY);
    let mut kept: Vec<_> = possible
        .map(|(id, logit)| Candidate { id, logit })
        .collect();
    kept.sort_unstable_by(Candidate::order);
    if rules.is_greedy() {
        kept.truncate(1);
        return kept;
    }
    if rules.top_k > 0 {
        kept.truncate(rules.top_k as usize);
    }
    cut_top_p(rules, &row, &mut kept);
    cut_min_p(rules, &mut kept);
    for candidate in &mut kept {
        candidate.logit /= rules.temperature;
    }
    kept
}

/// `logit + Σ biases - count · frequency_penalty - presence_penalty`, the penalties for tokens that were drawn.
fn corrected(rules: &Rules, row: &[f32], counts: &BTreeMap<u32, u32>) -> Vec<f32> {
    let mut row = row.to_vec();
    let mut add = |id: u32, number: f32| {
        if let Some(logit) = row.get_mut(id as usize) {
            *logit += number;
        }
    };
    for (id, bias) in &rules.biases {
        add(*id, *bias);
    }
    for (id, count) in counts.iter().filter(|(_, count)| **count > 0) {
        #[expect(clippy::cast_precision_loss, reason = "as llama.cpp does it")]
        let count = *count as f32;
        add(
            *id,
            -(count * rules.frequency_penalty + rules.presence_penalty),
        );
    }
    row
}

/// Of what `top_k` has left, in llama.cpp's order of additions, which decides about the last bits.
fn cut_top_p(rules: &Rules, row: &[f32], kept: &mut Vec<Candidate>) {
    let Some(best) = kept.first().copied() else {
        return;
    };
    if rules.top_p >= 1.0 {
        return;
    }
    let share = |logit: f32| (logit - best.logit).exp();
    let sum: f32 = if rules.top_k == 0 {
        let possible = row.iter().filter(|logit| **logit > f32::NEG_INFINITY);
        possible.map(|logit| share(*logit)).sum()
    } else {
        kept.iter().map(|candidate| share(candidate.logit)).sum()
    };
    let mut so_far = 0.0;
    let enough = kept.iter().position(|candidate| {
        so_far += share(candidate.logit) / sum;
        so_far >= rules.top_p
    });
    if let Some(last) = enough {
        kept.truncate(last + 1);
    }
}

/// `logit < max + ln(min_p)` is cut off.
fn cut_min_p(rules: &Rules, kept: &mut Vec<Candidate>) {
    let Some(best) = kept.first().copied() else {
        return;
    };
    if rules.min_p > 0.0 {
        let floor = best.logit + rules.min_p.ln();
        kept.retain(|candidate| candidate.logit >= floor);
    }
}
