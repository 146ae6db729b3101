//! Every type and all that a product can do besides, against the CPU's decoding and products.

use crate::gpu::Gpu;
use crate::gpu::tests::{gpu, to_bytes};
use crate::kernels::product::tests::{Case, Random, TOLERANCE, UNTOUCHED, assert_close, single};
use crate::kernels::{Matrix, Product, Tile, Tokens};
use crate::model::Activation;
use crate::quant::QuantType;
use crate::reference::activation::{add, gated, soft_cap};

/// The whole output, with room for so many tokens.
fn run(case: &Case, gpu: &Gpu, room: u32) -> Vec<f32> {
    run_with(Tile::Floats, case, gpu, room)
}

fn run_with(tile: Tile, case: &Case, gpu: &Gpu, room: u32) -> Vec<f32> {
    let source = case.product.tiled_source(tile, gpu.abilities());
    let groups = case.product.tiled_groups(room);
    case.run_as(gpu, &source, groups, to_bytes(&case.states), room)
}

#[track_caller]
fn assert_untouched(number: f32) {
    assert_eq!(number.to_bits(), UNTOUCHED.to_bits());
}

#[test]
fn tiles_of_every_type_are_the_products_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for (turn, kind) in (0..).zip(QuantType::ALL) {
        let block = u32::try_from(kind.quant().block_weights).expect("small");
        // Less than a tile, some more than one of rows, and of tokens.
        let shapes = [(5, 17), (67, 20), (3, 70)];
        let (rows, tokens) = shapes[turn % 3];
        let product = single(kind, rows, 3 * block.max(32));
        let case = Case::new(product, tokens, turn as u64);
        check(Tile::Floats, &case, &gpu, 1.0);
    }
}

#[test]
fn tiles_of_halves_are_products_of_rounded_numbers() {
    let Some(gpu) = gpu().filter(|gpu| gpu.abilities().has_half) else {
        return;
    };
    for (turn, kind) in (0..).zip(QuantType::ALL) {
        let inputs = u32::try_from(kind.quant().block_weights).expect("small");
        let inputs = 2 * inputs.max(32);
        let mut case = Case::new(single(kind, 67, inputs), 20, turn);
        // Of the size that weights have.
        let weights = Random(turn + 100).numbers(67 * inputs as usize);
        case.blocks[0] = kind.encode(&weights).expect("whole");
        // Both factors of a product are rounded to 11 bits.
        check(Tile::Halves, &case, &gpu, 1.0 + 2f32.powi(-10) / TOLERANCE);
    }
}

/// Holds tiles against the products of the CPU: errors may be so many times as large as those of 32 bits.
fn check(tile: Tile, case: &Case, gpu: &Gpu, slack: f32) {
    let expected = case.expected(0);
    let seen = run_with(tile, case, gpu, case.step.tokens + 1);
    for (index, number) in seen.iter().enumerate() {
        let what = (&case.product.label, tile, index);
        match expected.numbers.get(index) {
            Some(it) => assert_close(*number, *it, slack * expected.magnitudes[index], &what),
            None => assert_untouched(*number),
        }
    }
}

#[test]
fn halves_of_numbers_that_are_too_large_stay_numbers() {
    let Some(gpu) = gpu().filter(|gpu| gpu.abilities().has_half) else {
        return;
    };
    let mut case = Case::new(single(QuantType::F32, 3, 64), 16, 4);
    case.states = case.states.iter().map(|state| state * 1e6).collect();
    let seen = run_with(Tile::Halves, &case, &gpu, 16);
    assert!(seen.iter().all(|number| number.is_finite()), "{seen:?}");
    let floats = run(&case, &gpu, 16);
    assert_ne!(seen, floats);
}

#[test]
fn tiles_of_three_matrices_follow_one_another_with_their_biases() {
    let Some(gpu) = gpu() else { return };
    let kinds = [
        (QuantType::Q4K, 70, 0),
        (QuantType::Q6K, 3, 70),
        (QuantType::Q8_0, 65, 73),
    ];
    let product = Product {
        matrices: kinds.map(|(kind, rows, _)| Matrix { kind, rows }).to_vec(),
        has_bias: true,
        output_first: 4,
        output_stride: 150,
        ..single(QuantType::Q4K, 0, 256)
    };
    let case = Case::new(product, 19, 77);
    let seen = run(&case, &gpu, 19);
    for token in seen.chunks_exact(150) {
        let (before, rest) = token.split_at(4);
        let behind = &rest[138..];
        before
            .iter()
            .chain(behind)
            .for_each(|it| assert_untouched(*it));
    }
    for (matrix, (kind, rows, before)) in kinds.into_iter().enumerate() {
        let expected = case.expected(matrix);
        for (index, (it, magnitude)) in expected
            .numbers
            .iter()
            .zip(&expected.magnitudes)
            .enumerate()
        {
            let (token, row) = (index / rows as usize, index % rows as usize + before);
            let number = seen[token * 150 + 4 + row];
            let what = (kind, token, row);
            assert_close(number, it + case.bias[row], magnitude + 1.0, &what);
        }
    }
}

#[test]
fn gates_and_ups_of_a_tile_become_one() {
    let Some(gpu) = gpu() else { return };
    for (activation, has_bias) in [(Activation::Silu, true), (Activation::Gelu, false)] {
        let rows = 75;
        let matrices = [QuantType::F16, QuantType::Q4_0].map(|kind| Matrix { kind, rows });
        let product = Product {
            matrices: matrices.to_vec(),
            gated: Some(activation),
            has_bias,
            ..single(QuantType::F16, rows, 64)
        };
        let mut case = Case::new(product, 18, 5);
        // Of all sizes, so that gates are closed, open and between.
        let gates = Random(3).numbers(75 * 64);
        case.blocks[0] = QuantType::F16.encode(&gates).expect("whole");
        let seen = run(&case, &gpu, 18);
        let [mut gates, mut ups] = [0, 1].map(|matrix| case.expected(matrix).numbers);
        let magnitudes = case.expected(1).magnitudes;
        if has_bias {
            let (gate, up) = case.bias.split_at(75);
            add(&mut gates, gate);
            add(&mut ups, up);
        }
        let sizes: Vec<_> = gates.iter().map(|gate| gate.abs().max(1.0)).collect();
        gated(activation, &mut gates, &ups);
        for (index, number) in seen.iter().enumerate() {
            let magnitude = 10.0 * (magnitudes[index] + 1.0) * sizes[index];
            assert_close(*number, gates[index], magnitude, &(activation, index));
        }
    }
}

#[test]
fn tiles_are_capped_and_made_for_the_asked_tokens_only() {
    let Some(gpu) = gpu() else { return };
    let cap = 30.0;
    let product = Product {
        soft_cap: Some(cap),
        tokens: Tokens::Output,
        ..single(QuantType::F32, 65, 64)
    };
    let mut case = Case::new(product, 25, 6);
    let rows = Random(9).numbers(65 * 64);
    case.blocks[0] = to_bytes(&rows.iter().map(|it| it * 60.0).collect::<Vec<_>>());
    for output_tokens in [0, 17] {
        case.step.output_first = 8;
        case.step.output_tokens = output_tokens;
        let seen = run(&case, &gpu, 20);
        let expected = case.expected(0);
        let (made, behind) = seen.split_at(output_tokens as usize * 65);
        for (index, number) in made.iter().enumerate() {
            let at = 8 * 65 + index;
            let capped = soft_cap(expected.numbers[at], cap);
            let magnitude = expected.magnitudes[at] + 100.0;
            assert_close(*number, capped, magnitude, &index);
        }
        for number in behind {
            assert_untouched(*number);
        }
    }
}

#[test]
fn more_tiles_than_workgroups_of_one_direction_go_in_two() {
    let product = single(QuantType::Q8_0, 64 * 65_536, 32);
    let [wide, high, deep] = product.tiled_groups(65);
    assert_eq!([wide, high, deep], [32_768, 2, 2]);
    assert!(
        product
            .tiled_source(Tile::Floats, &super::super::all_abilities())
            .wgsl
            .contains("group.y")
    );
}
