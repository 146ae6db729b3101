//! What each rule leaves to draw from, and what a row says of its tokens.

use std::collections::BTreeMap;

use crate::{Rules, log_probability};

/// Probabilities of 0.5, 0.25, 0.15 and 0.1; the last cannot be drawn.
fn row() -> Vec<f32> {
    let shares: [f32; 5] = [0.15, 0.5, 0.1, 0.25, 0.0];
    shares.map(|share| share.ln() + 3.0).to_vec()
}

fn ids(rules: &Rules, counts: &[(u32, u32)]) -> Vec<u32> {
    let counts: BTreeMap<u32, u32> = counts.iter().copied().collect();
    let candidates = rules.candidates(&row(), &counts);
    candidates.iter().map(|candidate| candidate.id).collect()
}

#[test]
fn rules_leave_the_likeliest() {
    let rules = Rules::default();
    assert_eq!(ids(&rules, &[]), [1, 3, 0, 2]);
    let greedy = Rules {
        temperature: 1e-9,
        ..rules.clone()
    };
    assert_eq!(ids(&greedy, &[]), [1]);
    let top_k = Rules {
        top_k: 3,
        ..rules.clone()
    };
    assert_eq!(ids(&top_k, &[]), [1, 3, 0]);
    let top_p = Rules {
        top_p: 0.7,
        ..rules.clone()
    };
    assert_eq!(ids(&top_p, &[]), [1, 3]);
    // Of the first two alone the first has two thirds.
    let both = Rules {
        top_k: 2,
        top_p: 0.66,
        ..rules.clone()
    };
    assert_eq!(ids(&both, &[]), [1]);
    let min_p = Rules {
        min_p: 0.25,
        ..rules
    };
    assert_eq!(ids(&min_p, &[]), [1, 3, 0]);
}

#[test]
fn biases_and_penalties_change_logits_before_anything_is_cut() {
    let rules = Rules {
        top_k: 2,
        ..Rules::default()
    };
    let biased = Rules {
        biases: vec![(2, 60.0), (2, 40.0), (1, -100.0), (9, 1.0)],
        ..rules.clone()
    };
    assert_eq!(ids(&biased, &[]), [2, 3]);
    // ln 2 lies between the first two.
    let present = Rules {
        presence_penalty: 0.7,
        ..rules.clone()
    };
    assert_eq!(ids(&present, &[(1, 5)]), [3, 1]);
    assert_eq!(ids(&present, &[(1, 0)]), [1, 3]);
    let frequent = Rules {
        frequency_penalty: 0.4,
        ..rules
    };
    assert_eq!(ids(&frequent, &[(1, 1)]), [1, 3]);
    assert_eq!(ids(&frequent, &[(1, 2)]), [3, 1]);
}

#[test]
fn logits_are_divided_by_the_temperature_behind_all_cuts() {
    let rules = Rules {
        temperature: 2.0,
        top_p: 0.7,
        ..Rules::default()
    };
    let candidates = rules.candidates(&row(), &BTreeMap::new());
    let logits: Vec<f32> = candidates.iter().map(|candidate| candidate.logit).collect();
    assert_eq!(logits, [row()[1] / 2.0, row()[3] / 2.0]);
}

#[test]
fn nothing_is_drawn_from_what_is_no_number() {
    let candidates = Rules::default().candidates(&[f32::NAN, f32::NEG_INFINITY], &BTreeMap::new());
    assert_eq!(candidates, []);
}

#[test]
fn log_probabilities_are_those_of_the_raw_row() {
    for (token, share) in (0..).zip([0.15f64, 0.5, 0.1, 0.25]) {
        let found = log_probability(&row(), token).expect("a token");
        assert!((found - share.ln()).abs() < 1e-6);
    }
    assert_eq!(log_probability(&row(), 5), None);
}
