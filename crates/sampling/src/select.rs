//! Which tokens may be drawn, straight from a row of logits.
//!
//! Same order and same results as llama.cpp's samplers `logit_bias`, `penalties`, `top_k`, `top_p`, `min_p` and `temp`
//! in a chain, without its copies: the row is read once, what is kept is few, and buffers are used again.
//!
//! Corrections of single logits (biases, penalties) are kept beside the row. Rows have 50,000 to 250,000 entries, of
//! which a request corrects a few.

use std::collections::BTreeMap;

use crate::{Candidate, Rules};

/// Above so many, sorting what is left is quicker than inserting one by one.
const INSERTED_MAX: usize = 256;

/// Entries that are compared at once with what is kept: most rows have only few that are better.
const STRIDE: usize = 32;

/// Selects candidates for one answer.
#[derive(Debug, Clone)]
pub struct Selection {
    rules: Rules,
    /// How often each token was drawn, in the order of ids; empty without penalties.
    counts: Vec<(u32, u32)>,
    /// Logits that differ from the row's, in the order of ids.
    corrected: Vec<Candidate>,
    /// Likeliest first, of equals the lower id; where nothing is cut off by rank, in the order of ids.
    kept: Vec<Candidate>,
}

impl Selection {
    /// At the beginning of an answer.
    pub fn new(mut rules: Rules) -> Self {
        rules.biases.sort_by_key(|(id, _)| *id);
        Self {
            rules,
            counts: Vec::new(),
            corrected: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// In an answer in which tokens were drawn so often.
    pub fn going_on(rules: Rules, counts: &BTreeMap<u32, u32>) -> Self {
        let mut selection = Self::new(rules);
        if selection.rules.has_penalties() {
            let drawn = counts.iter().filter(|(_, count)| **count > 0);
            selection.counts = drawn.map(|(id, count)| (*id, *count)).collect();
        }
        selection
    }

    /// Whether there is always just one candidate.
    pub fn is_greedy(&self) -> bool {
        self.rules.is_greedy()
    }

    /// A token was drawn.
    pub fn accept(&mut self, id: u32) {
        if !self.rules.has_penalties() {
            return;
        }
        match self.counts.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(place) => {
                if let Some((_, count)) = self.counts.get_mut(place) {
                    *count += 1;
                }
            }
            Err(place) => self.counts.insert(place, (id, 1)),
        }
    }

    /// The tokens that may be drawn, with the logits to draw by; order tells nothing. One of them where it
    /// [is greedy](Self::is_greedy), none where no logit is above minus infinity.
    pub fn candidates(&mut self, row: &[f32]) -> &[Candidate] {
        self.correct(row);
        self.kept.clear();
        if self.is_greedy() {
            self.keep_most(row, 1);
            return &self.kept;
        }
        match usize::try_from(self.rules.top_k).unwrap_or(usize::MAX) {
            0 => self.keep_likely(row),
            most @ 1..=INSERTED_MAX => self.keep_most(row, most),
            most => self.keep_many(row, most),
        }
        self.cut_top_p(row);
        self.cut_min_p();
        for candidate in &mut self.kept {
            candidate.logit /= self.rules.temperature;
        }
        &self.kept
    }

    /// Applies biases, then penalties.
    fn correct(&mut self, row: &[f32]) {
        let logit = |id: u32| row.get(usize::try_from(id).ok()?).copied();
        let corrected = &mut self.corrected;
        corrected.clear();
        for (id, bias) in &self.rules.biases {
            match corrected.last_mut() {
                Some(last) if last.id == *id => last.logit += bias,
                _ => corrected.extend(logit(*id).map(|logit| Candidate {
                    id: *id,
                    logit: logit + bias,
                })),
            }
        }
        let biased = corrected.len();
        for (id, count) in &self.counts {
            #[expect(clippy::cast_precision_loss, reason = "as llama.cpp does it")]
            let penalty =
                *count as f32 * self.rules.frequency_penalty + self.rules.presence_penalty;
            let before = corrected.get_mut(..biased).unwrap_or_default();
            match before.binary_search_by_key(id, |candidate| candidate.id) {
                Ok(place) => {
                    if let Some(candidate) = before.get_mut(place) {
                        candidate.logit -= penalty;
                    }
                }
                Err(_) => corrected.extend(logit(*id).map(|logit| Candidate {
                    id: *id,
                    logit: logit - penalty,
                })),
            }
        }
        corrected.sort_unstable_by_key(|candidate| candidate.id);
    }

    /// Keeps the `most` likeliest tokens, a few.
    fn keep_most(&mut self, row: &[f32], most: usize) {
        let kept = &mut self.kept;
        for_each_above(
            f32::NEG_INFINITY,
            row,
            &self.corrected,
            |candidate, floor| {
                let place = kept.partition_point(|other| other.logit >= candidate.logit);
                kept.insert(place, candidate);
                kept.truncate(most);
                if kept.len() == most
                    && let Some(last) = kept.last()
                {
                    *floor = last.logit;
                }
            },
        );
    }

    /// Keeps the `most` likeliest tokens, of which there are many.
    fn keep_many(&mut self, row: &[f32], most: usize) {
        self.keep_above(f32::NEG_INFINITY, row);
        if self.kept.len() > most {
            self.kept.select_nth_unstable_by(most, Candidate::order);
            self.kept.truncate(most);
        }
        self.kept.sort_unstable_by(Candidate::order);
    }

    /// Keeps every token that `top_p` and `min_p` could leave over of the whole row.
    fn keep_likely(&mut self, row: &[f32]) {
        /// Rounding must not cut off what the exact rule leaves.
        const MARGIN: f32 = 0.1;
        let mut floor = f32::NEG_INFINITY;
        let best = best(row, &self.corrected);
        if self.rules.min_p > 0.0 {
            floor = best + self.rules.min_p.ln() - MARGIN;
        }
        if self.rules.top_p < 1.0 {
            // All tokens that have less than a `count`-th of what `top_p` cuts off have less than that together.
            #[expect(clippy::cast_precision_loss, reason = "the margin is larger")]
            let count = row.len() as f32;
            floor = floor.max(best + ((1.0 - self.rules.top_p) / count).ln() - MARGIN);
        }
        self.keep_above(floor, row);
        if self.rules.top_p < 1.0 {
            self.kept.sort_unstable_by(Candidate::order);
        }
    }

    fn keep_above(&mut self, floor: f32, row: &[f32]) {
        let kept = &mut self.kept;
        for_each_above(floor, row, &self.corrected, |candidate, _| {
            kept.push(candidate);
        });
    }

    /// Cuts off all after the first ones that sum up to `top_p`.
    fn cut_top_p(&mut self, row: &[f32]) {
        let Some(best) = self.kept.first().copied() else {
            return;
        };
        if self.rules.top_p >= 1.0 {
            return;
        }
        let share = |logit: f32| (logit - best.logit).exp();
        // Summed up in llama.cpp's order, since the order decides about the last bits.
        let mut sum = 0.0;
        if self.rules.top_k == 0 {
            for_each(row, &self.corrected, |logit| sum += share(logit));
        } else {
            for candidate in &self.kept {
                sum += share(candidate.logit);
            }
        }
        let mut so_far = 0.0;
        let enough = self.kept.iter().position(|candidate| {
            so_far += share(candidate.logit) / sum;
            so_far >= self.rules.top_p
        });
        if let Some(last) = enough {
            self.kept.truncate(last + 1);
        }
    }

    /// Cuts off what has less than `min_p` of the likeliest token's probability.
    fn cut_min_p(&mut self) {
        if self.rules.min_p <= 0.0 {
            return;
        }
        let most = self.kept.iter().map(|candidate| candidate.logit);
        let floor = most.fold(f32::NEG_INFINITY, f32::max) + self.rules.min_p.ln();
        self.kept.retain(|candidate| candidate.logit >= floor);
    }
}

fn best(row: &[f32], corrected: &[Candidate]) -> f32 {
    let mut best = f32::NEG_INFINITY;
    for_each_above(best, row, corrected, |candidate, floor| {
        best = candidate.logit;
        *floor = candidate.logit;
    });
    best
}

/// Every logit of the row, in the order of ids.
fn for_each(row: &[f32], corrected: &[Candidate], mut visit: impl FnMut(f32)) {
    for_each_part(row, corrected, |part| match part {
        Part::AsIs(_, logits) => logits.iter().copied().for_each(&mut visit),
        Part::Corrected(candidate) => visit(candidate.logit),
    });
}

/// Every token above the floor, in the order of ids; the visitor may raise the floor.
fn for_each_above(
    mut floor: f32,
    row: &[f32],
    corrected: &[Candidate],
    mut visit: impl FnMut(Candidate, &mut f32),
) {
    for_each_part(row, corrected, |part| match part {
        Part::AsIs(first, logits) => {
            for (strides, stride) in (0..).zip(logits.chunks(STRIDE)) {
                // Without a branch per entry: nearly all strides have none that is better.
                let better: usize = stride.iter().map(|logit| usize::from(*logit > floor)).sum();
                if better == 0 {
                    continue;
                }
                for (offset, logit) in (0..).zip(stride.iter().copied()) {
                    if logit > floor {
                        let id = first + strides * STRIDE + offset;
                        let id = u32::try_from(id).unwrap_or(u32::MAX);
                        visit(Candidate { id, logit }, &mut floor);
                    }
                }
            }
        }
        Part::Corrected(candidate) => {
            if candidate.logit > floor {
                visit(candidate, &mut floor);
            }
        }
    });
}

/// A piece of a row.
enum Part<'r> {
    /// From this id on.
    AsIs(usize, &'r [f32]),
    Corrected(Candidate),
}

fn for_each_part<'r>(row: &'r [f32], corrected: &[Candidate], mut visit: impl FnMut(Part<'r>)) {
    let mut start = 0;
    for candidate in corrected {
        let end = usize::try_from(candidate.id).unwrap_or(usize::MAX);
        visit(Part::AsIs(start, row.get(start..end).unwrap_or_default()));
        visit(Part::Corrected(*candidate));
        start = end + 1;
    }
    visit(Part::AsIs(start, row.get(start..).unwrap_or_default()));
}
