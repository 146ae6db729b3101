//! Randomness as a function of seed, position and token.
//!
//! Each token of the vocabulary has a number of its own at each position, and the token whose logit and number make the
//! largest sum is drawn (the Gumbel-max trick): that is a draw from the softmax of the logits. Unlike one number for the
//! whole row, it does not depend on which other tokens may be drawn: where a part of them is forbidden, the token that
//! would have been drawn anyway still is, if it is not one of them.

use crate::Candidate;

/// The randomness of one answer.
#[derive(Debug, Clone, Copy)]
pub struct Randomness {
    seed: u64,
}

impl Randomness {
    /// Equal seeds draw equal tokens from equal rows.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Draws one of these tokens; `None` where none can be drawn. `position` counts the tokens of the answer before it.
    pub fn draw(
        self,
        position: u32,
        candidates: impl IntoIterator<Item = Candidate>,
    ) -> Option<u32> {
        let row = mix(mix(self.seed) ^ u64::from(position));
        let mut best: Option<(u32, f64)> = None;
        for Candidate { id, logit } in candidates {
            let number = mix(row ^ u64::from(id));
            let score = f64::from(logit) + gumbel(number);
            // False for what is not a number, which is thus never drawn.
            if score > best.map_or(f64::NEG_INFINITY, |(_, score)| score) {
                best = Some((id, score));
            }
        }
        best.map(|(token, _)| token)
    }
}

/// As [`Randomness::draw`], for one draw.
pub fn draw(seed: u64, position: u32, candidates: &[Candidate]) -> Option<u32> {
    Randomness::new(seed).draw(position, candidates.iter().copied())
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

/// A step of Steele and Vigna's `SplitMix64`: neighbouring numbers give unrelated ones.
const fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [1.0, 0.0, 2.0, f32::NEG_INFINITY];

    fn row() -> impl Iterator<Item = Candidate> {
        let ids = (0u32..).zip(LOGITS);
        ids.map(|(id, logit)| Candidate { id, logit })
    }

    #[test]
    fn draws_follow_the_softmax() {
        const DRAWS: u32 = 40_000;
        let randomness = Randomness::new(7);
        let mut counts = [0u32; 4];
        for position in 0..DRAWS {
            let token = randomness.draw(position, row()).expect("drawn");
            counts[usize::try_from(token).expect("an index")] += 1;
        }
        let sum: f64 = LOGITS.iter().map(|logit| f64::from(*logit).exp()).sum();
        for (count, logit) in counts.into_iter().zip(LOGITS) {
            let share = f64::from(count) / f64::from(DRAWS);
            let expected = f64::from(logit).exp() / sum;
            assert!((share - expected).abs() < 0.01, "{share} and {expected}");
        }
    }

    #[test]
    fn a_draw_depends_on_seed_and_position_only() {
        let draws = |seed| -> Vec<_> {
            (0..64)
                .map(|position| Randomness::new(seed).draw(position, row()))
                .collect()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        assert_ne!(draws(1), draws(1 << 32));
        assert!(draws(1).iter().any(|token| *token != draws(1)[0]));
    }

    /// Answers are gone on with by other versions and other engines, on other machines.
    #[test]
    fn a_draw_never_changes() {
        let even: Vec<_> = (0..32).map(|id| Candidate { id, logit: 0.0 }).collect();
        let drawn: Vec<_> = (0..8).map(|at| draw(42, at, &even)).collect();
        assert_eq!(drawn, [10, 16, 5, 6, 2, 8, 2, 14].map(Some));
    }

    #[test]
    fn forbidding_other_tokens_does_not_change_a_draw() {
        let randomness = Randomness::new(3);
        for position in 0..1000 {
            let drawn = randomness.draw(position, row());
            for forbidden in 0..4 {
                let rest = row().filter(|candidate| candidate.id != forbidden);
                if drawn != Some(forbidden) {
                    assert_eq!(randomness.draw(position, rest), drawn);
                }
            }
        }
    }

    #[test]
    fn nothing_is_drawn_where_nothing_can_be() {
        let randomness = Randomness::new(3);
        assert_eq!(randomness.draw(0, std::iter::empty()), None);
        let row = [(0, f32::NAN), (1, f32::NEG_INFINITY)];
        let row = row.map(|(id, logit)| Candidate { id, logit });
        assert_eq!(randomness.draw(0, row), None);
    }
}
