//! Many draws, and those at the edges.

use std::collections::BTreeMap;

use ::sampling::Rules;

use super::rules::is_same;
use super::{Asked, Bench, Numbers};
use crate::kernels::sampling::{RECORDS, SamplingBuffer, SamplingMethod};

fn normal_row(vocabulary: u32) -> Vec<f32> {
    let mut numbers = Numbers(11);
    (0..vocabulary).map(|_| numbers.normal() * 3.0).collect()
}

#[test]
fn over_many_seeds_and_positions_draws_equal_those_of_the_cpu() {
    let Some(gpu) = crate::gpu::tests::gpu() else {
        return;
    };
    let bench = Bench::new(&gpu, 1000, true);
    let row = normal_row(1000);
    let mut equal = 0;
    for draw in 0..2000 {
        let mut asked = Asked::new(Rules {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            ..Rules::default()
        });
        if draw % 2 == 0 {
            asked.rules = Rules::default();
        }
        asked.seed = u64::from(draw) << 31;
        asked.draw = draw;
        let token = bench.sample(&row, &asked).token;
        equal += u32::from(is_same(&row, &BTreeMap::new(), &asked, token));
    }
    assert!(equal >= 1998, "{equal} of 2000");
}

#[test]
fn counts_go_from_draw_to_draw_and_several_share_a_reading() {
    let Some(gpu) = crate::gpu::tests::gpu() else {
        return;
    };
    let bench = Bench::new(&gpu, 1000, false);
    let row = normal_row(1000);
    let mut asked = Asked::new(Rules {
        temperature: 0.5,
        frequency_penalty: 1.5,
        presence_penalty: 0.5,
        top_k: 20,
        ..Rules::default()
    });
    bench.set_logits(&row);
    let mut counts = BTreeMap::new();
    for first in [0, RECORDS] {
        for draw in first..first + RECORDS {
            asked.draw = draw;
            bench.submit(&asked, SamplingMethod::Draw);
        }
        // The ring holds the last ones; the last one's token is what is gathered next.
        let last = bench.record(first + RECORDS - 1).token;
        for draw in first..first + RECORDS {
            asked.draw = draw;
            let token = bench.token(draw);
            assert!(is_same(&row, &counts, &asked, token));
            *counts.entry(token.expect("drawn")).or_insert(0) += 1;
        }
        assert_eq!(last, bench.token(first + RECORDS - 1));
    }
    let dense = bench.read(SamplingBuffer::Counts);
    let told = (0u32..).zip(dense).filter(|(_, count)| *count > 0);
    assert!(counts.len() > 1);
    assert_eq!(told.collect::<BTreeMap<_, _>>(), counts);
}

#[test]
fn greedy_by_the_stages_of_a_draw_is_the_likeliest_token_too() {
    let Some(gpu) = crate::gpu::tests::gpu() else {
        return;
    };
    let bench = Bench::new(&gpu, 1000, true);
    let mut row = normal_row(1000);
    row[300] = 40.0;
    row[20] = 40.0;
    bench.set_logits(&row);
    for (draw, temperature) in [(0, 0.0), (1, 1e-8)] {
        let mut asked = Asked::new(Rules {
            temperature,
            top_p: 0.5,
            min_p: 0.9,
            ..Rules::default()
        });
        asked.draw = draw;
        bench.submit(&asked, SamplingMethod::Draw);
        assert_eq!(bench.record(draw).token, Some(20));
        assert_eq!(bench.sample(&row, &asked).token, Some(20));
    }
}

#[test]
fn of_equal_tokens_those_with_lower_ids_are_left() {
    let Some(gpu) = crate::gpu::tests::gpu() else {
        return;
    };
    for vocabulary in [1000, 70_000] {
        let bench = Bench::new(&gpu, vocabulary, false);
        let row = vec![1.25; vocabulary as usize];
        let mut seen = [0; 300];
        for draw in 0..60 {
            let mut asked = Asked::new(Rules {
                top_k: 300,
                ..Rules::default()
            });
            asked.draw = draw;
            let token = bench.sample(&row, &asked).token.expect("drawn");
            assert!(token < 300);
            seen[token as usize] += 1;
            assert!(is_same(&row, &BTreeMap::new(), &asked, Some(token)));
        }
        assert!(seen.iter().filter(|count| **count > 0).count() > 40);
        // A tenth of the mass of equal tokens is a tenth of the tokens.
        let mut asked = Asked::new(Rules {
            top_p: 0.0995,
            ..Rules::default()
        });
        for draw in 0..20 {
            asked.draw = draw;
            let token = bench.sample(&row, &asked).token.expect("drawn");
            assert!(token < vocabulary / 10);
        }
    }
}

#[test]
fn where_nothing_may_be_drawn_nothing_is() {
    let Some(gpu) = crate::gpu::tests::gpu() else {
        return;
    };
    let bench = Bench::new(&gpu, 1000, true);
    let rows = [
        vec![f32::NEG_INFINITY; 1000],
        vec![f32::NAN; 1000],
        normal_row(1000),
    ];
    let rules = [
        Rules::default(),
        Rules {
            temperature: 0.0,
            ..Rules::default()
        },
        Rules {
            top_k: 3,
            top_p: 0.5,
            min_p: 0.1,
            ..Rules::default()
        },
    ];
    for (case, row) in rows.iter().enumerate() {
        for rules in &rules {
            let mut asked = Asked::new(rules.clone());
            asked.alternatives = Some(4);
            if case == 2 {
                asked.mask = Some(vec![0; 32]);
            }
            let record = bench.sample(row, &asked);
            assert_eq!(record.token, None);
            let told = record.told.expect("asked for");
            let count = if case == 2 { 4 } else { 0 };
            assert_eq!(told.alternatives.len(), count);
        }
    }
    assert_eq!(bench.read(SamplingBuffer::Counts), [0; 1000]);
}

#[test]
fn infinite_logits_are_the_likeliest_and_harm_nothing() {
    let Some(gpu) = crate::gpu::tests::gpu() else {
        return;
    };
    let bench = Bench::new(&gpu, 1000, true);
    let mut row = normal_row(1000);
    row[77] = f32::INFINITY;
    row[78] = f32::NAN;
    for temperature in [0.0, 1.0] {
        let asked = Asked::new(Rules {
            temperature,
            top_k: 5,
            top_p: 0.9,
            ..Rules::default()
        });
        assert_eq!(bench.sample(&row, &asked).token, Some(77));
    }
}

#[test]
fn vocabularies_of_any_length_are_drawn_from_to_their_last_token() {
    let Some(gpu) = crate::gpu::tests::gpu() else {
        return;
    };
    for vocabulary in [1, 65, 4097] {
        for is_small in [false, true] {
            let bench = Bench::new(&gpu, vocabulary, is_small);
            let mut row = vec![0.0; vocabulary as usize];
            row[vocabulary as usize - 1] = 50.0;
            for temperature in [0.0, 1.0] {
                let asked = Asked::new(Rules {
                    temperature,
                    top_p: 0.9,
                    ..Rules::default()
                });
                assert_eq!(bench.sample(&row, &asked).token, Some(vocabulary - 1));
            }
        }
    }
}

#[test]
fn biases_and_penalties_move_logits_by_exactly_what_they_say() {
    let Some(gpu) = crate::gpu::tests::gpu() else {
        return;
    };
    let bench = Bench::new(&gpu, 1000, true);
    let mut counts = vec![0; 1000];
    (counts[5], counts[6]) = (3, 1);
    // Three times 0.5 and once 0.25 less, 1 more: 3.75 of 4.5.
    for (other, chosen) in [(3.749, 5), (3.751, 6)] {
        for draw in [0, 1] {
            let mut row = vec![0.0; 1000];
            row[5] = 4.5;
            // Once each, and no bias.
            row[6] = other + 0.75;
            let mut asked = Asked::new(Rules {
                temperature: 0.0,
                frequency_penalty: 0.5,
                presence_penalty: 0.25,
                biases: vec![(5, 1.5), (5, -0.5)],
                ..Rules::default()
            });
            asked.draw = draw;
            bench.write(SamplingBuffer::Counts, counts.iter().copied());
            bench.set_logits(&row);
            let lists = [SamplingMethod::Greedy, SamplingMethod::Draw];
            bench.submit(&asked, lists[draw as usize]);
            assert_eq!(bench.record(draw).token, Some(chosen));
        }
    }
}
