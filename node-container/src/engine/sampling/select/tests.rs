//! Selection beside llama.cpp's own chain, on random rows.

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::token::logit_bias::LlamaLogitBias;
use proptest::prelude::*;

use super::*;

const PLAIN: Rules = Rules {
    temperature: 1.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
    frequency_penalty: 0.0,
    presence_penalty: 0.0,
    biases: Vec::new(),
};

/// What llama.cpp's own samplers leave over, in the order of ids.
fn of_llama(rules: &Rules, drawn: &[u32], row: &[f32]) -> Vec<(u32, f32)> {
    let token = |id: u32| LlamaToken::new(i32::try_from(id).expect("small"));
    let count = i32::try_from(row.len()).expect("small");
    let biases: Vec<_> = rules
        .biases
        .iter()
        .map(|(id, bias)| LlamaLogitBias::new(token(*id), *bias))
        .collect();
    let mut samplers = Vec::new();
    if !biases.is_empty() {
        samplers.push(LlamaSampler::logit_bias(count, &biases));
    }
    let (frequency, presence) = (rules.frequency_penalty, rules.presence_penalty);
    if frequency != 0.0 || presence != 0.0 {
        samplers.push(LlamaSampler::penalties(
            count, 1000, 1.0, frequency, presence,
        ));
    }
    if rules.temperature == 0.0 {
        samplers.push(LlamaSampler::greedy());
    } else {
        samplers.push(LlamaSampler::top_k(
            i32::try_from(rules.top_k).expect("small"),
        ));
        samplers.push(LlamaSampler::top_p(rules.top_p, 1));
        samplers.push(LlamaSampler::min_p(rules.min_p, 1));
        samplers.push(LlamaSampler::temp(rules.temperature));
    }
    let mut chain = LlamaSampler::chain(samplers, true);
    for id in drawn {
        chain.accept(token(*id));
    }
    let mut data = LlamaTokenDataArray::from_iter(
        (0i32..)
            .zip(row)
            .map(|(id, logit)| LlamaTokenData::new(LlamaToken::new(id), *logit, 0.0)),
        false,
    );
    chain.apply(&mut data);
    let id = |token: LlamaToken| u32::try_from(token.0).expect("an id");
    if rules.temperature == 0.0 {
        let chosen = data.selected_token().expect("one");
        let logit = data.data.iter().find(|entry| entry.id() == chosen);
        return vec![(id(chosen), logit.expect("in it").logit())];
    }
    let mut left: Vec<_> = data
        .data
        .iter()
        .map(|entry| (id(entry.id()), entry.logit()))
        .collect();
    left.sort_by_key(|(id, _)| *id);
    left
}

fn ours(rules: &Rules, drawn: &[u32], row: &[f32]) -> Vec<(u32, f32)> {
    let mut selection = Selection::new(rules.clone());
    for id in drawn {
        selection.accept(LlamaToken::new(i32::try_from(*id).expect("small")));
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

fn rules() -> impl Strategy<Value = Rules> {
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
    fn the_same_tokens_are_left_over_as_by_llama_cpp(
        row in row(500),
        rules in rules(),
        drawn in prop::collection::vec(0u32..500, 0..20),
    ) {
        prop_assert_eq!(ours(&rules, &drawn, &row), of_llama(&rules, &drawn, &row));
    }
}

#[test]
fn of_equals_the_lower_id_is_kept() {
    let rules = Rules { top_k: 2, ..PLAIN };
    let left = ours(&rules, &[], &[1.0, 3.0, 3.0, 3.0, 0.0]);
    assert_eq!(left, [(1, 3.0), (2, 3.0)]);
    let rules = Rules {
        temperature: 0.0,
        ..PLAIN
    };
    assert_eq!(ours(&rules, &[], &[1.0, 3.0, 3.0]), [(1, 3.0)]);
}

#[test]
fn what_is_impossible_is_never_left_over() {
    let row = [f32::NEG_INFINITY, 1.0, f32::NAN, f32::NEG_INFINITY];
    for rules in [
        PLAIN,
        Rules { top_k: 3, ..PLAIN },
        Rules {
            top_p: 0.9,
            ..PLAIN
        },
        Rules {
            min_p: 0.1,
            ..PLAIN
        },
        Rules {
            temperature: 0.0,
            ..PLAIN
        },
    ] {
        assert_eq!(ours(&rules, &[], &row), [(1, 1.0)], "{rules:?}");
        assert_eq!(ours(&rules, &[], &[f32::NEG_INFINITY; 3]), [], "{rules:?}");
    }
}

#[test]
fn a_temperature_that_is_almost_nothing_takes_the_likeliest_token() {
    let row = [3.0, -2.0, 17.5, 17.499_998, f32::NEG_INFINITY, 1e6];
    let candidates = |temperature| {
        let rules = Rules {
            temperature,
            ..PLAIN
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
