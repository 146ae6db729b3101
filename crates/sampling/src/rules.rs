//! What a request says about its tokens.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::Selection;

/// Temperatures below this are taken for 0. Logits have about seven digits: those that differ at all differ by a millionth
/// or more, which becomes ten or more, so that the second is drawn less than once in 20,000 times. Divided by far less,
/// logits are infinite, and no token can be drawn.
pub const GREEDY_BELOW: f32 = 1e-7;

/// What a request says about its tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Logits are divided by it; below [`GREEDY_BELOW`] the likeliest token is taken.
    pub temperature: f32,
    /// So many of the likeliest tokens; 0 means all.
    pub top_k: u32,
    /// The likeliest tokens that sum up to this (nucleus sampling, Holtzman and others); 1 means all.
    pub top_p: f32,
    /// At least this share of the likeliest token's probability; 0 means all.
    pub min_p: f32,
    /// Subtracted from a token's logit once per time that it was drawn.
    pub frequency_penalty: f32,
    /// Subtracted from the logit of a token that was drawn at all.
    pub presence_penalty: f32,
    /// Added to the logits of tokens; a token may have several. Those of tokens beyond the row mean nothing.
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

impl Rules {
    /// Whether there is always just one candidate.
    pub fn is_greedy(&self) -> bool {
        self.temperature < GREEDY_BELOW
    }

    /// Whether it matters what was drawn before.
    pub fn has_penalties(&self) -> bool {
        self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }

    /// The tokens that may be drawn from one row, likeliest first, of equals the lower id, with the logits to draw by.
    /// `counts` says how often each token was drawn. Who draws a whole answer keeps a [`Selection`].
    pub fn candidates(&self, row: &[f32], counts: &BTreeMap<u32, u32>) -> Vec<Candidate> {
        let mut selection = Selection::going_on(self.clone(), counts);
        let mut candidates = selection.candidates(row).to_vec();
        candidates.sort_unstable_by(Candidate::order);
        candidates
    }
}

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// The logit to draw by.
    pub logit: f32,
}

impl Candidate {
    /// Likeliest first, of equals the lower id.
    #[cfg_attr(
        target_pointer_width = "64",
        expect(clippy::trivially_copy_pass_by_ref, reason = "what sorting asks for")
    )]
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        let by_logit = other.logit.total_cmp(&self.logit);
        by_logit.then(self.id.cmp(&other.id))
    }
}
