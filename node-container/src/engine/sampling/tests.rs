//! Selection beside llama.cpp's own chain, on random rows.

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::token::logit_bias::LlamaLogitBias;
use proptest::prelude::*;

use super::*;

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
