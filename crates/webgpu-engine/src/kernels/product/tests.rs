//! Every type and every way of multiplying, against the CPU's decoding and products.

use super::*;
use crate::gpu::Gpu;
use crate::gpu::tests::{gpu, to_bytes, to_floats};
use crate::kernels::tests::run;
use crate::reference;
use crate::reference::activation::{gated, soft_cap};
use crate::reference::packed::Packed;

/// Numbers that look random (`SplitMix64`).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// Between -1 and 1.
    #[expect(clippy::cast_precision_loss, reason = "24 bits")]
    pub(crate) fn number(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    pub(crate) fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }

    /// Any float of 16 bits that is finite, with either sign; one in eight has no leading one.
    fn half(&mut self) -> [u8; 2] {
        let exponent = if self.below(8) == 0 {
            0
        } else {
            self.below(31)
        };
        let rest = self.bits() & 0x83ff;
        u16::try_from((exponent << 10) | rest)
            .expect("16 bits")
            .to_le_bytes()
    }

    /// Blocks with any bits where numbers lie, and finite scales.
    pub(crate) fn blocks(&mut self, kind: QuantType, weights: usize) -> Vec<u8> {
        let quant = kind.quant();
        let bytes = kind.bytes(weights).expect("whole blocks");
        let mut blocks: Vec<u8> = (0..bytes).map(|_| self.bits().to_le_bytes()[0]).collect();
        for block in blocks.chunks_exact_mut(quant.block_bytes) {
            match kind {
                QuantType::F32 => block.copy_from_slice(&(self.number() * 1e6).to_le_bytes()),
                QuantType::BF16 => {
                    block.copy_from_slice(&(self.number() * 1e6).to_le_bytes()[2..]);
                }
                QuantType::F16 | QuantType::Q4_0 | QuantType::Q5_0 | QuantType::Q8_0 => {
                    block[..2].copy_from_slice(&self.half());
                }
                QuantType::Q4_1 | QuantType::Q5_1 | QuantType::Q4K | QuantType::Q5K => {
                    block[..2].copy_from_slice(&self.half());
                    block[2..4].copy_from_slice(&self.half());
                }
                QuantType::Q6K => block[208..].copy_from_slice(&self.half()),
            }
        }
        blocks
    }
}

/// A buffer with the blocks of a file.
pub(crate) fn buffer(kind: QuantType, blocks: &[u8]) -> Vec<u8> {
    let (mut bodies, mut scales) = (Vec::new(), Vec::new());
    kind.split(blocks, &mut bodies, &mut scales)
        .expect("whole blocks");
    let quant = kind.quant();
    let weights = blocks.len() / quant.block_bytes * quant.block_weights;
    let (body_bytes, scale_bytes) = kind.gpu_bytes(weights as u64).expect("whole blocks");
    bodies.resize(usize::try_from(body_bytes).expect("small"), 0);
    scales.resize(usize::try_from(scale_bytes).expect("small"), 0);
    [bodies, scales].concat()
}

/// What a product must give, and how large what was added up for it is.
pub(crate) struct Expected {
    pub(crate) numbers: Vec<f32>,
    pub(crate) magnitudes: Vec<f32>,
}

/// The products of one matrix: token after token.
fn expected(kind: QuantType, inputs: usize, blocks: &[u8], states: &[f32]) -> Expected {
    let matrix = reference::Matrix::new(kind, inputs, blocks).expect("whole rows");
    let absolute = |numbers: &[f32]| -> Vec<f32> { numbers.iter().map(|it| it.abs()).collect() };
    let rows: Vec<_> = (0..matrix.rows())
        .flat_map(|row| absolute(&matrix.row(row).expect("is there")))
        .collect();
    let bytes = to_bytes(&rows);
    let magnitudes = reference::Matrix::new(QuantType::F32, inputs, bytes).expect("whole rows");
    Expected {
        numbers: matrix.product(states),
        magnitudes: magnitudes.product(&absolute(states)),
    }
}

/// What an untouched place of the output has.
pub(crate) const UNTOUCHED: f32 = -7.5;

/// A product that is to be run.
pub(crate) struct Case {
    pub(crate) product: Product,
    /// The matrices' blocks.
    pub(crate) blocks: Vec<Vec<u8>>,
    pub(crate) states: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) step: Step,
}

impl Case {
    /// Random contents for a product, and states for so many tokens.
    pub(crate) fn new(product: Product, tokens: u32, seed: u64) -> Self {
        let mut random = Random(seed);
        let inputs = product.inputs as usize;
        let rows: u32 = product.matrices.iter().map(|matrix| matrix.rows).sum();
        let blocks = product.matrices.iter();
        let blocks = blocks.map(|matrix| random.blocks(matrix.kind, matrix.rows as usize * inputs));
        Self {
            blocks: blocks.collect(),
            states: random.numbers(inputs * tokens as usize),
            bias: random.numbers(rows as usize),
            step: Step {
                tokens,
                ..Step::default()
            },
            product,
        }
    }

    /// The whole output, with room for so many tokens.
    pub(crate) fn run(&self, gpu: &Gpu, variant: Variant, room: u32) -> Vec<f32> {
        let source = self.product.source(variant, gpu.abilities());
        let groups = self.product.groups(variant, room);
        let states = match variant.numbers {
            Numbers::Float => to_bytes(&self.states),
            Numbers::PackedDot => {
                let groups = Packed::all(&self.states);
                groups.iter().flat_map(Packed::to_bytes).collect()
            }
        };
        self.run_as(gpu, &source, groups, states, room)
    }

    /// The whole output of a kernel for this product, with room for so many tokens.
    pub(crate) fn run_as(
        &self,
        gpu: &Gpu,
        source: &Source,
        groups: [u32; 3],
        states: Vec<u8>,
        room: u32,
    ) -> Vec<f32> {
        let mut buffers = vec![states];
        let matrices = self.product.matrices.iter().zip(&self.blocks);
        buffers.extend(matrices.map(|(matrix, blocks)| buffer(matrix.kind, blocks)));
        if self.product.has_bias {
            // The vector is that of all rows of the output, of which these may be the last.
            let before = vec![9.0; self.product.output_first as usize];
            buffers.push(to_bytes(&[before, self.bias.clone()].concat()));
        }
        let output = self.product.output_stride * room;
        buffers.push(to_bytes(&vec![UNTOUCHED; output as usize]));
        let result = buffers.len() - 1;
        to_floats(&run(gpu, source, &buffers, self.step, groups, result))
    }

    /// What one matrix must give.
    pub(crate) fn expected(&self, matrix: usize) -> Expected {
        let kind = self.product.matrices[matrix].kind;
        let inputs = self.product.inputs as usize;
        expected(kind, inputs, &self.blocks[matrix], &self.states)
    }
}

pub(crate) fn single(kind: QuantType, rows: u32, inputs: u32) -> Product {
    Product {
        label: format!("{kind:?} {rows}x{inputs}"),
        matrices: vec![Matrix { kind, rows }],
        inputs,
        has_bias: false,
        gated: None,
        soft_cap: None,
        output_first: 0,
        output_stride: rows,
        tokens: Tokens::All,
    }
}

/// With two rows where a thread has whole ones.
const fn variant(lanes: u32, columns: u32, reduce: Reduce) -> Variant {
    Variant {
        lanes,
        rows: if lanes == 1 { 2 } else { 1 },
        columns,
        reduce,
        numbers: Numbers::Float,
    }
}

/// Sums in another order differ by so much of what was added up.
pub(crate) const TOLERANCE: f32 = 3e-6;

#[track_caller]
pub(crate) fn assert_close(seen: f32, expected: f32, magnitude: f32, what: &dyn std::fmt::Debug) {
    let error = (seen - expected).abs();
    assert!(
        error <= TOLERANCE * magnitude,
        "{what:?}: {seen} for {expected}, of {magnitude}"
    );
}

/// Runs a product of one matrix with whole tokens and compares all of it.
fn check_single(gpu: &Gpu, product: Product, variant: Variant, tokens: u32, seed: u64) {
    let case = Case::new(product, tokens, seed);
    let results = case.run(gpu, variant, tokens + 1);
    let Expected {
        numbers,
        magnitudes,
    } = case.expected(0);
    let what = (&case.product.label, variant, tokens, seed);
    for (index, number) in results.iter().enumerate() {
        match numbers.get(index) {
            Some(expected) => assert_close(*number, *expected, magnitudes[index], &what),
            None => assert_eq!(number.to_bits(), UNTOUCHED.to_bits(), "{what:?}"),
        }
    }
}

#[test]
fn products_of_every_type_are_those_of_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for (turn, kind) in QuantType::ALL.into_iter().enumerate() {
        // A row is one block, an odd number of blocks, and more than lanes reach at once.
        let block = u32::try_from(kind.quant().block_weights)
            .expect("small")
            .max(32);
        let shapes = [(1, block), (67, 3 * block), (5, 2304)];
        let variants = [
            (variant(1, 1, Reduce::Memory), 2),
            (
                Variant {
                    rows: 4,
                    ..variant(1, 4, Reduce::Memory)
                },
                5,
            ),
            (variant(16, 2, Reduce::Subgroups), 3),
        ];
        for (index, (rows, inputs)) in shapes.into_iter().enumerate() {
            let (variant, tokens) = variants[(index + turn) % 3];
            check_single(
                &gpu,
                single(kind, rows, inputs),
                variant,
                tokens,
                turn as u64,
            );
        }
    }
}

#[test]
fn products_do_not_depend_on_lanes_rows_columns_and_reduction() {
    let Some(gpu) = gpu() else { return };
    for (index, lanes) in [1, 4, 8, 16, 32, 64].into_iter().enumerate() {
        for (turn, columns) in [1, 2, 4, 8].into_iter().enumerate() {
            let reduce = [Reduce::Memory, Reduce::Subgroups][(index + turn) % 2];
            let product = single(QuantType::Q4_1, 70, 352);
            let variant = Variant {
                rows: [1, 2, 4][(index + turn) % 3],
                ..variant(lanes, columns, reduce)
            };
            check_single(&gpu, product, variant, 11, u64::from(lanes * columns));
        }
    }
}

#[test]
fn rows_of_three_matrices_follow_one_another_with_their_biases() {
    let Some(gpu) = gpu() else { return };
    let kinds = [
        (QuantType::Q4K, 70),
        (QuantType::Q6K, 3),
        (QuantType::Q8_0, 65),
    ];
    let matrices = kinds.map(|(kind, rows)| Matrix { kind, rows });
    for (lanes, columns) in [(1, 1), (8, 4), (64, 2)] {
        let product = Product {
            matrices: matrices.to_vec(),
            has_bias: true,
            output_first: 4,
            output_stride: 150,
            ..single(QuantType::Q4K, 0, 512)
        };
        let case = Case::new(product, 5, 77);
        let seen = case.run(&gpu, variant(lanes, columns, Reduce::Memory), 5);
        let expected = [0, 1, 2].map(|matrix| case.expected(matrix));
        for (token, row) in (0..5).flat_map(|token| (0..150).map(move |row| (token, row))) {
            let number = seen[token * 150 + row];
            let place = row.checked_sub(4).filter(|place| *place < 138);
            let Some(place) = place else {
                assert_eq!(number.to_bits(), UNTOUCHED.to_bits(), "{token} {row}");
                continue;
            };
            let (matrix, row, rows) = match place {
                0..70 => (0, place, 70),
                70..73 => (1, place - 70, 3),
                _ => (2, place - 73, 65),
            };
            let at = token * rows + row;
            let (product, magnitude) = (
                expected[matrix].numbers[at],
                expected[matrix].magnitudes[at],
            );
            let what = (lanes, columns, token, place);
            assert_close(number, product + case.bias[place], magnitude + 1.0, &what);
        }
    }
}

#[test]
fn gates_and_ups_become_one() {
    let Some(gpu) = gpu() else { return };
    for activation in [Activation::Silu, Activation::Gelu] {
        for (lanes, columns, has_bias) in [(1, 2, false), (16, 4, true)] {
            let rows = 90;
            let matrices = [QuantType::F16, QuantType::Q4_0].map(|kind| Matrix { kind, rows });
            let product = Product {
                matrices: matrices.to_vec(),
                gated: Some(activation),
                has_bias,
                ..single(QuantType::F16, rows, 64)
            };
            let mut case = Case::new(product, 3, 5);
            // Of all sizes, so that gates are closed, open and between.
            case.blocks[0] = QuantType::F16
                .encode(&Random(3).numbers(90 * 64))
                .expect("whole");
            let seen = case.run(&gpu, variant(lanes, columns, Reduce::Memory), 3);
            let [mut gates, mut ups] = [0, 1].map(|matrix| case.expected(matrix).numbers);
            let magnitudes = case.expected(1).magnitudes;
            if has_bias {
                let (gate, up) = case.bias.split_at(90);
                reference::activation::add(&mut gates, gate);
                reference::activation::add(&mut ups, up);
            }
            let sizes: Vec<_> = gates.iter().map(|gate| gate.abs().max(1.0)).collect();
            gated(activation, &mut gates, &ups);
            for (index, number) in seen.iter().enumerate() {
                let magnitude = 10.0 * (magnitudes[index] + 1.0) * sizes[index];
                let what = (activation, lanes, index);
                assert_close(*number, gates[index], magnitude, &what);
            }
        }
    }
}

#[test]
fn a_gate_far_from_zero_is_open_or_closed_but_a_number() {
    let Some(gpu) = gpu() else { return };
    for activation in [Activation::Silu, Activation::Gelu] {
        let matrix = Matrix {
            kind: QuantType::F32,
            rows: 4,
        };
        let product = Product {
            matrices: vec![matrix; 2],
            gated: Some(activation),
            ..single(QuantType::F32, 4, 32)
        };
        let mut case = Case::new(product, 1, 1);
        case.states = [vec![1.0], vec![0.0; 31]].concat();
        let first = [-1e4f32, -200.0, 200.0, 1e4];
        let rows = |first: [f32; 4]| {
            let rows = first.map(|first| [vec![first], vec![0.0; 31]].concat());
            to_bytes(&rows.concat())
        };
        case.blocks = vec![rows(first), rows([1.0; 4])];
        let seen = case.run(&gpu, Variant::PLAIN, 1);
        assert!(seen[0].abs() < 1e-6 && seen[1].abs() < 1e-6, "{seen:?}");
        assert_eq!(seen[2..], first[2..]);
    }
}

#[test]
fn logits_are_capped_and_made_for_the_asked_tokens_only() {
    let Some(gpu) = gpu() else { return };
    let cap = 30.0;
    for (lanes, columns) in [(1, 1), (8, 8)] {
        let product = Product {
            soft_cap: Some(cap),
            tokens: Tokens::Output,
            ..single(QuantType::F32, 65, 64)
        };
        let mut case = Case::new(product, 9, 6);
        case.step.output_first = 6;
        case.step.output_tokens = 3;
        let rows: Vec<_> = Random(9)
            .numbers(65 * 64)
            .iter()
            .map(|it| it * 60.0)
            .collect();
        case.blocks[0] = to_bytes(&rows);
        let seen = case.run(&gpu, variant(lanes, columns, Reduce::Memory), 4);
        let expected = case.expected(0);
        for (index, number) in seen.iter().enumerate() {
            if index >= 3 * 65 {
                assert_eq!(number.to_bits(), UNTOUCHED.to_bits());
                continue;
            }
            let at = 6 * 65 + index;
            let capped = soft_cap(expected.numbers[at], cap);
            let what = (lanes, index);
            assert_close(*number, capped, expected.magnitudes[at] + 100.0, &what);
        }
    }
}

#[test]
fn more_rows_than_workgroups_of_one_direction_are_multiplied() {
    let Some(gpu) = gpu() else { return };
    let product = single(QuantType::F16, 65_538, 32);
    let [wide, high, deep] = product.groups(variant(64, 1, Reduce::Memory), 1);
    assert!(wide <= 65_535 && high == 2 && deep == 1);
    assert!(wide * high >= 65_538 && wide * high <= 65_539);
    check_single(&gpu, product, variant(64, 1, Reduce::Memory), 1, 8);
}

#[test]
fn a_step_without_outputs_multiplies_nothing() {
    let Some(gpu) = gpu() else { return };
    let product = Product {
        tokens: Tokens::Output,
        ..single(QuantType::Q8_0, 64, 32)
    };
    let case = Case::new(product, 1, 2);
    for lanes in [1, 8] {
        let seen = case.run(&gpu, variant(lanes, 1, Reduce::Memory), 1);
        assert!(seen.iter().all(|it| it.to_bits() == UNTOUCHED.to_bits()));
    }
}

#[test]
fn every_kernel_for_browsers_compiles_here_too() {
    let Some(gpu) = gpu() else { return };
    for source in every().iter().step_by(7) {
        let program = pollster::block_on(gpu.program(source));
        assert!(program.is_ok(), "{program:?}");
    }
}
