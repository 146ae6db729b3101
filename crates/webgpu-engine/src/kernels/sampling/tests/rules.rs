//! Any rules over any rows.

use std::collections::BTreeMap;

use ::sampling::{Rules, draw, log_sum};

use super::numbers::{gumbel, mix};
use super::{Asked, Bench, Numbers, row};
use crate::kernels::sampling::{Record, SamplingBuffer};

/// Differences of scores that rounding to 32 bits may make.
const NEAR: f64 = 2e-5;

/// Relative differences of sums of probabilities that rounding may make. The CPU adds up 70,000 of them in 32 bits.
const NEAR_SHARE: f32 = 2e-3;

/// The row as the CPU is to see it: without what the mask forbids, and without what is no number, which would make a sum
/// of its own no number.
fn possible(row: &[f32], mask: Option<&[u32]>) -> Vec<f32> {
    let ids = 0..row.len();
    ids.map(|id| {
        let may = mask.is_none_or(|mask| mask[id / 32] >> (id % 32) & 1 == 1);
        if may && !row[id].is_nan() {
            row[id]
        } else {
            f32::NEG_INFINITY
        }
    })
    .collect()
}

fn score(asked: &Asked, id: u32, logit: f32) -> f64 {
    let row = mix(mix(asked.seed) ^ u64::from(asked.draw));
    f64::from(logit) + gumbel(mix(row ^ u64::from(id)))
}

/// Whether the token is the CPU's. Where it is not, panics unless rounding can have made the difference: rules that are a
/// bit wider allow the token, and no token that slightly narrower rules allow is clearly ahead of it.
pub(super) fn is_same(
    row: &[f32],
    counts: &BTreeMap<u32, u32>,
    asked: &Asked,
    token: Option<u32>,
) -> bool {
    let row = possible(row, asked.mask.as_deref());
    let rules = &asked.rules;
    let candidates = rules.candidates(&row, counts);
    let expected = draw(asked.seed, asked.draw, &candidates);
    if expected == token {
        return true;
    }
    let changed = |by: f32| {
        // Beyond 1 all is left, which narrower rules must not come near to.
        let top_p = if rules.top_p < 1.0 {
            rules.top_p + by * rules.top_p.max(1e-3)
        } else {
            1.0
        };
        let rules = Rules {
            top_p,
            min_p: rules.min_p * (1.0 - by * 1e-2),
            ..rules.clone()
        };
        rules.candidates(&row, counts)
    };
    let (wide, narrow) = (changed(NEAR_SHARE), changed(-NEAR_SHARE));
    let token = token.unwrap_or_else(|| panic!("none instead of {expected:?}: {rules:?}"));
    let own = wide.iter().find(|candidate| candidate.id == token);
    let own = own.unwrap_or_else(|| panic!("{token} instead of {expected:?}: {rules:?}"));
    let own = score(asked, token, own.logit);
    let scores = narrow
        .iter()
        .map(|other| score(asked, other.id, other.logit));
    let most = scores.fold(f64::NEG_INFINITY, f64::max);
    assert!(
        most - own < NEAR,
        "{token} with {own} instead of {expected:?} with {most}: {rules:?}"
    );
    false
}

fn any_rules(numbers: &mut Numbers, vocabulary: u32) -> Rules {
    let temperature = [0.0, 0.1, 0.7, 1.0, 1.0, 2.0][numbers.below(6) as usize];
    let top_k = match numbers.below(6) {
        0 => 1,
        1 => 40,
        2 => numbers.below(vocabulary + 10),
        3 => vocabulary,
        _ => 0,
    };
    let top_p = match numbers.below(7) {
        0 => 1e-6,
        1 => 0.999_999,
        2 => 0.95,
        3 => numbers.share(),
        4 => 0.0,
        _ => 1.0,
    };
    let min_p = match numbers.below(5) {
        0 => 0.05,
        1 => numbers.share(),
        2 => 1.0,
        _ => 0.0,
    };
    let bias = |numbers: &mut Numbers| {
        let id = numbers.below(vocabulary);
        (id, numbers.share() * 200.0 - 100.0)
    };
    let biases = match numbers.below(3) {
        0 => (0..numbers.below(20)).map(|_| bias(numbers)).collect(),
        _ => Vec::new(),
    };
    Rules {
        temperature,
        top_k,
        top_p,
        min_p,
        biases,
        ..Rules::default()
    }
}

fn any_mask(numbers: &mut Numbers, vocabulary: u32) -> Option<Vec<u32>> {
    let words = 0..vocabulary.div_ceil(32);
    match numbers.below(8) {
        0 => Some(words.map(|_| numbers.next()).collect()),
        1 => {
            let only = numbers.below(vocabulary);
            let bit = |word| u32::from(word == only / 32) << (only % 32);
            Some(words.map(bit).collect())
        }
        2 => Some(words.map(|_| 0).collect()),
        _ => None,
    }
}

/// The alternatives of a record, as the CPU sorts a row.
fn check_told(row: &[f32], asked: &Asked, record: &Record) {
    let Some(count) = asked.alternatives else {
        assert_eq!(record.told, None);
        return;
    };
    let told = record.told.as_ref().expect("asked for");
    let all = (0u32..).zip(row.iter().copied());
    let mut sorted: Vec<_> = all
        .filter(|(_, logit)| *logit > f32::NEG_INFINITY)
        .collect();
    let numbers: Vec<_> = sorted.iter().map(|(_, logit)| *logit).collect();
    sorted.sort_by(|one, other| other.1.total_cmp(&one.1));
    sorted.truncate(count as usize);
    assert_eq!(told.alternatives, sorted);
    let exact = log_sum(&numbers);
    assert!((f64::from(told.log_sum) - exact).abs() < 1e-5 * exact.abs().max(1.0));
}

fn check(vocabulary: u32, is_small: bool, cases: u32, seed: u64) {
    let Some(gpu) = crate::gpu::tests::gpu() else {
        return;
    };
    let bench = Bench::new(&gpu, vocabulary, is_small);
    let mut numbers = Numbers(seed);
    let mut same = 0;
    for case in 0..cases {
        let row = row(&mut numbers, vocabulary);
        let mut asked = Asked::new(any_rules(&mut numbers, vocabulary));
        asked.seed = mix(numbers.next().into());
        asked.draw = case;
        asked.mask = any_mask(&mut numbers, vocabulary);
        asked.alternatives = [None, Some(0), Some(5), Some(20)][numbers.below(4) as usize];
        let mut counts = BTreeMap::new();
        if numbers.below(3) == 0 {
            asked.rules.frequency_penalty = numbers.share() * 4.0 - 2.0;
            asked.rules.presence_penalty = numbers.share() * 4.0 - 2.0;
            counts = (0..50)
                .map(|_| (numbers.below(vocabulary), numbers.below(4)))
                .collect();
        }
        let dense = (0..vocabulary).map(|id| counts.get(&id).copied().unwrap_or(0));
        bench.write(SamplingBuffer::Counts, dense);
        let record = bench.sample(&row, &asked);
        same += u32::from(is_same(&row, &counts, &asked, record.token));
        check_told(&row, &asked, &record);
        if let Some(token) = record.token {
            assert_eq!(record.logit.to_bits(), row[token as usize].to_bits());
            let now = bench.read(SamplingBuffer::Counts)[token as usize];
            assert_eq!(now, counts.get(&token).copied().unwrap_or(0) + 1);
        }
    }
    assert!(same * 100 >= cases * 97, "{same} of {cases}");
}

#[test]
fn any_rules_over_a_small_vocabulary_choose_what_the_cpu_chooses() {
    check(1000, true, 300, 1);
}

#[test]
fn any_rules_over_a_small_vocabulary_choose_so_in_large_workgroups_too() {
    check(1000, false, 200, 2);
}

#[test]
fn any_rules_over_a_large_vocabulary_choose_what_the_cpu_chooses() {
    check(70_000, true, 40, 3);
}

#[test]
fn any_rules_over_a_large_vocabulary_choose_so_in_large_workgroups_too() {
    check(70_000, false, 40, 4);
}
