//! Which token comes next: from a row of logits to a draw.
//!
//! Order and rules are those of the rig (`node-container/src/engine/sampling`), which are llama.cpp's: biases,
//! penalties, `top_k`, `top_p`, `min_p`, temperature, draw. Who goes on with another's answer draws what that one would
//! have drawn.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Temperatures below this are taken for 0: divided by them, logits become infinite.
pub const GREEDY_BELOW: f32 = 1e-7;

/// What a request says about its tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Logits are divided by it; below [`GREEDY_BELOW`] the likeliest token is taken.
    pub temperature: f32,
    /// So many of the likeliest tokens; 0 means all.
    pub top_k: usize,
    /// The likeliest tokens that sum up to this.
    pub top_p: f32,
    /// At least this share of the likeliest token's probability.
    pub min_p: f32,
    /// Subtracted from a token's logit once per time that it was drawn.
    pub frequency_penalty: f32,
    /// Subtracted from the logit of a token that was drawn at all.
    pub presence_penalty: f32,
    /// Added to the logits of tokens; a token may have several.
    pub biases: Vec<(u32, f32)>,
}

impl Default for Rules {
    /// Any token, as likely as the model has it.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            biases: Vec::new(),
        }
    }
}

/// A token that may be drawn, and the logit to draw by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its logit.
    pub logit: f32,
}

impl Rules {
    /// The tokens that may be drawn, likeliest first, of equals the lower id: one where the temperature is (nearly) zero,
    /// none where no logit is above minus infinity. `counts` says how often each token was drawn.
    pub fn candidates(&self, row: &[f32], counts: &BTreeMap<u32, u32>) -> Vec<Candidate> {
        let row = self.corrected(row, counts);
        let all = (0u32..).zip(row.iter().copied());
        let possible = all.filter(|(_, logit)| *logit > f32::NEG_INFINITY);
        let mut kept: Vec<_> = possible
            .map(|(id, logit)| Candidate { id, logit })
            .collect();
        kept.sort_unstable_by(|one, other| order(*one, *other));
        if self.temperature < GREEDY_BELOW {
            kept.truncate(1);
            return kept;
        }
        if self.top_k > 0 {
            kept.truncate(self.top_k);
        }
        self.cut_top_p(&row, &mut kept);
        self.cut_min_p(&mut kept);
        for candidate in &mut kept {
            candidate.logit /= self.temperature;
        }
        kept
    }

    /// `logit + Σ biases - count · frequency_penalty - presence_penalty`, the penalties for tokens that were drawn.
    fn corrected(&self, row: &[f32], counts: &BTreeMap<u32, u32>) -> Vec<f32> {
        let mut row = row.to_vec();
        let mut add = |id: u32, number: f32| {
            let place = usize::try_from(id).ok();
            if let Some(logit) = place.and_then(|place| row.get_mut(place)) {
                *logit += number;
            }
        };
        for (id, bias) in &self.biases {
            add(*id, *bias);
        }
        if self.frequency_penalty != 0.0 || self.presence_penalty != 0.0 {
            for (id, count) in counts.iter().filter(|(_, count)| **count > 0) {
                #[expect(clippy::cast_precision_loss, reason = "as llama.cpp does it")]
                let count = *count as f32;
                add(
                    *id,
                    -(count * self.frequency_penalty + self.presence_penalty),
                );
            }
        }
        row
    }

    /// Nucleus (Holtzman and others): cuts off all after the first ones that sum up to `top_p`. Of what `top_k` has left,
    /// in llama.cpp's order of additions, which decides about the last bits.
    fn cut_top_p(&self, row: &[f32], kept: &mut Vec<Candidate>) {
        let Some(best) = kept.first().copied() else {
            return;
        };
        if self.top_p >= 1.0 {
            return;
        }
        let share = |logit: f32| (logit - best.logit).exp();
        let sum: f32 = if self.top_k == 0 {
            let possible = row.iter().filter(|logit| **logit > f32::NEG_INFINITY);
            possible.map(|logit| share(*logit)).sum()
        } else {
            kept.iter().map(|candidate| share(candidate.logit)).sum()
        };
        let mut so_far = 0.0;
        let enough = kept.iter().position(|candidate| {
            so_far += share(candidate.logit) / sum;
            so_far >= self.top_p
        });
        if let Some(last) = enough {
            kept.truncate(last + 1);
        }
    }

    /// Cuts off what has less than `min_p` of the likeliest token's probability: `logit < max + ln(min_p)`.
    fn cut_min_p(&self, kept: &mut Vec<Candidate>) {
        let Some(best) = kept.first().copied() else {
            return;
        };
        if self.min_p > 0.0 {
            let floor = best.logit + self.min_p.ln();
            kept.retain(|candidate| candidate.logit >= floor);
        }
    }
}

/// Likeliest first, of equals the lower id.
fn order(one: Candidate, other: Candidate) -> Ordering {
    let by_logit = other.logit.total_cmp(&one.logit);
    by_logit.then(one.id.cmp(&other.id))
}

/// Draws one of the candidates: the one whose logit and random number make the largest sum (the Gumbel-max trick, which
/// draws from the softmax). The number is a function of seed, position in the answer and token alone, so that what may
/// not be drawn changes nothing about the rest.
pub fn draw(seed: u64, position: u32, candidates: &[Candidate]) -> Option<u32> {
    let row = mix(mix(seed) ^ u64::from(position));
    let mut best: Option<(u32, f64)> = None;
    for candidate in candidates {
        let number = mix(row ^ u64::from(candidate.id));
        let score = f64::from(candidate.logit) + gumbel(number);
        if score > best.map_or(f64::NEG_INFINITY, |(_, score)| score) {
            best = Some((candidate.id, score));
        }
    }
    best.map(|(token, _)| token)
}

/// A number of the standard Gumbel distribution, `-ln(-ln(u))`.
fn gumbel(number: u64) -> f64 {
    /// The distance of neighbouring numbers with 53 bits in the interval from 0 to 1.
    const STEP: f64 = f64::EPSILON / 2.0;
    #[expect(
        clippy::cast_precision_loss,
        reason = "53 bits are what the type holds"
    )]
    let uniform = ((number >> 11) as f64 + 0.5) * STEP;
    -(-uniform.ln()).ln()
}

/// A step of Steele and Vigna's `SplitMix64`.
const fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// `ln Σ e^xᵢ`: a token's log-probability is its logit less this. Of raw logits, before any rule, as the rig tells it.
pub fn log_sum(row: &[f32]) -> f64 {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|logit| f64::from(logit - most).exp()).sum();
    f64::from(most) + sum.ln()
}

/// The log-probability of a token; none where the row has no such token.
pub fn log_probability(row: &[f32], token: u32) -> Option<f64> {
    let logit = row.get(usize::try_from(token).ok()?)?;
    Some(f64::from(*logit) - log_sum(row))
}
