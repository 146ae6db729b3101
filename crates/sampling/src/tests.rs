//! The rules, on random rows and at their edges.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{Candidate, GREEDY_BELOW, Rules, Selection};

mod plain;
mod rules;

fn selected(rules: &Rules, drawn: &[u32], row: &[f32]) -> Vec<(u32, f32)> {
    let mut selection = Selection::new(rules.clone());
    for id in drawn {
        selection.accept(*id);
    }
    let mut left: Vec<_> = selection
        .candidates(row)
        .iter()
        .map(|candidate| (candidate.id, candidate.logit))
        .collect();
    left.sort_by_key(|(id, _)| *id);
    left
}

/// No two alike, since llama.cpp leaves the order of equals open.
fn row(count: usize) -> impl Strategy<Value = Vec<f32>> {
    let numbers: Vec<u16> = (0..u16::try_from(count).expect("few")).collect();
    (Just(numbers).prop_shuffle(), 0.5f32..12.0).prop_map(move |(numbers, spread)| {
        numbers
            .into_iter()
            .map(|number| {
                // The further down, the more of them there are, as in a model's rows.
                let place = f32::from(number) / f32::from(u16::try_from(count).expect("few"));
                spread * (1.0 - place.sqrt() * 2.0)
            })
            .collect()
    })
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let share = || prop_oneof![Just(1.0f32), 0.05f32..1.0];
    (
        prop_oneof![Just(0.0f32), 0.1f32..2.0],
        prop_oneof![Just(0u32), 1u32..60, 250u32..600],
        share(),
        prop_oneof![Just(0.0f32), 0.001f32..0.9],
        prop_oneof![Just((0.0f32, 0.0f32)), (-2.0f32..2.0, -2.0f32..2.0)],
        prop::collection::vec((0u32..500, -100f32..100.0), 0..6),
    )
        .prop_map(
            |(temperature, top_k, top_p, min_p, penalties, biases)| Rules {
                temperature,
                top_k,
                top_p,
                min_p,
                frequency_penalty: penalties.0,
                presence_penalty: penalties.1,
                biases,
            },
        )
}

proptest! {
    #[test]
    fn what_is_selected_is_what_the_rules_say_plainly(
        row in row(500),
        rules in any_rules(),
        drawn in prop::collection::vec(0u32..500, 0..20),
    ) {
        let mut counts = BTreeMap::new();
        for id in &drawn {
            *counts.entry(*id).or_insert(0) += 1;
        }
        let plainly = plain::candidates(&rules, &row, &counts);
        prop_assert_eq!(&rules.candidates(&row, &counts), &plainly);
        let mut by_id: Vec<_> = plainly.iter().map(|it| (it.id, it.logit)).collect();
        by_id.sort_by_key(|(id, _)| *id);
        prop_assert_eq!(selected(&rules, &drawn, &row), by_id);
    }
}

#[test]
fn of_equals_the_lower_id_is_kept() {
    let rules = Rules {
        top_k: 2,
        ..Rules::default()
    };
    let left = selected(&rules, &[], &[1.0, 3.0, 3.0, 3.0, 0.0]);
    assert_eq!(left, [(1, 3.0), (2, 3.0)]);
    let rules = Rules {
        temperature: 0.0,
        ..Rules::default()
    };
    assert_eq!(selected(&rules, &[], &[1.0, 3.0, 3.0]), [(1, 3.0)]);
}

#[test]
fn what_is_impossible_is_never_left_over() {
    let row = [f32::NEG_INFINITY, 1.0, f32::NAN, f32::NEG_INFINITY];
    for rules in [
        Rules::default(),
        Rules {
            top_k: 3,
            ..Rules::default()
        },
        Rules {
            top_p: 0.9,
            ..Rules::default()
        },
        Rules {
            min_p: 0.1,
            ..Rules::default()
        },
        Rules {
            temperature: 0.0,
            ..Rules::default()
        },
    ] {
        assert_eq!(selected(&rules, &[], &row), [(1, 1.0)], "{rules:?}");
        assert_eq!(
            selected(&rules, &[], &[f32::NEG_INFINITY; 3]),
            [],
            "{rules:?}"
        );
    }
}

#[test]
fn a_temperature_that_is_almost_nothing_takes_the_likeliest_token() {
    let row = [3.0, -2.0, 17.5, 17.499_998, f32::NEG_INFINITY, 1e6];
    let candidates = |temperature| {
        let rules = Rules {
            temperature,
            ..Rules::default()
        };
        Selection::new(rules).candidates(&row).to_vec()
    };
    let likeliest = Candidate { id: 5, logit: 1e6 };
    // The smallest number there is, and the largest below the threshold.
    for temperature in [0.0, f32::from_bits(1), 1e-39, GREEDY_BELOW.next_down()] {
        assert_eq!(candidates(temperature), [likeliest], "{temperature:e}");
    }
    let warm = candidates(GREEDY_BELOW);
    assert!(warm.len() > 1);
    assert!(
        warm.iter()
            .all(|candidate| !candidate.logit.is_nan() && candidate.logit < f32::INFINITY)
    );
}
