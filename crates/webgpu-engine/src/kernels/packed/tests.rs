//! Packing and products of packed numbers, against the CPU's.

use gguf_writer::seeded::family::Family;

use super::super::tests::run;
use super::{Pack, bytes};
use crate::gpu::Gpu;
use crate::gpu::tests::{gpu, to_bytes, to_floats};
use crate::kernels::product::tests::{Case, Random, TOLERANCE, UNTOUCHED, assert_close, single};
use crate::kernels::{Matrix, Numbers, Product, Reduce, Step, Tokens, Variant};
use crate::model::{CacheType, Config, Demand, Lengths};
use crate::quant::QuantType;
use crate::reference::packed::{GROUP, Packed};

/// Groups as a buffer has them.
fn groups(bytes: &[u8]) -> Vec<Packed> {
    let groups = bytes.chunks_exact(48);
    groups
        .map(|group| {
            let (numbers, about) = group.split_at(GROUP);
            let (scale, _) = about.split_at(4);
            Packed {
                numbers: std::array::from_fn(|index| numbers[index].cast_signed()),
                scale: f32::from_le_bytes(scale.try_into().expect("four bytes")),
            }
        })
        .collect()
}

fn packed_gpu() -> Option<Gpu> {
    gpu().filter(|gpu| gpu.abilities().has_packed_dot)
}

#[test]
fn vectors_are_packed_as_the_reference_packs_them() {
    let Some(gpu) = packed_gpu() else { return };
    for (count, tokens) in [(1, 1), (3, 2), (18, 1), (64, 3), (80, 2)] {
        let mut floats = Random(u64::from(count)).numbers(GROUP * (count * tokens) as usize);
        for (index, group) in (0..).zip(floats.chunks_exact_mut(GROUP)) {
            // Of every size, and some are nothing but zeros.
            let power = index * 7 % 61 - 30;
            let scale = if power == 5 { 0.0 } else { 2f32.powi(power) };
            for number in group {
                *number *= scale;
            }
        }
        let pack = Pack {
            label: "pack".to_owned(),
            inputs: count * 32,
        };
        let empty = vec![0xff; usize::try_from(bytes(pack.inputs, tokens + 1)).expect("small")];
        let step = Step {
            tokens,
            ..Step::default()
        };
        // More workgroups than tokens write nothing.
        let workgroups = pack.groups(tokens + 1);
        let buffers = [to_bytes(&floats), empty];
        let packed = run(&gpu, &pack.source(), &buffers, step, workgroups, 1);
        let length = usize::try_from(bytes(pack.inputs, tokens)).expect("small");
        let (packed, behind) = packed.split_at(length);
        assert!(behind.iter().all(|byte| *byte == 0xff));
        let expected = Packed::all(&floats);
        assert_eq!(groups(packed).len(), expected.len());
        for (raw, expected) in packed.chunks_exact(48).zip(expected) {
            check_group(raw, &expected);
        }
    }
}

fn check_group(raw: &[u8], expected: &Packed) {
    let one = groups(raw)[0];
    assert!((one.scale - expected.scale).abs() <= 1e-6 * expected.scale);
    for (number, expected) in one.numbers.iter().zip(expected.numbers) {
        // Divisions may differ in the last bit, and so does what is just between two numbers.
        assert!(number.abs_diff(expected) <= 1, "{one:?} {expected:?}");
    }
    let sums = to_floats(&raw[36..48]);
    for (sum, expected) in sums.iter().zip(one.sums().into_iter().chain([0.0])) {
        assert!((sum - expected).abs() <= 1e-5 * one.scale);
    }
}

#[test]
fn what_is_packed_is_within_half_a_step() {
    let group: [f32; GROUP] =
        std::array::from_fn(|index| (f32::from(u8::try_from(index).expect("small")) - 11.3) * 0.37);
    let packed = Packed::new(&group);
    assert_eq!(packed.numbers[31], 127);
    for (before, after) in group.iter().zip(packed.to_floats()) {
        assert!((before - after).abs() <= packed.scale * 0.5001);
    }
    assert_eq!(Packed::new(&[0.0; GROUP]).to_bytes(), [0; 48]);
    assert_eq!(groups(&packed.to_bytes()), [packed]);
}

const fn variant(lanes: u32, columns: u32) -> Variant {
    Variant {
        lanes,
        rows: 1,
        columns,
        reduce: Reduce::Memory,
        numbers: Numbers::PackedDot,
    }
}

/// The product with random contents, whose states are what remains of them in 8 bits: what is exact with these is what
/// the kernel must give.
fn case(product: Product, tokens: u32, seed: u64) -> Case {
    let mut case = Case::new(product, tokens, seed);
    let packed = Packed::all(&case.states);
    case.states = packed.iter().flat_map(Packed::to_floats).collect();
    case
}

#[test]
fn products_of_whole_numbers_are_those_of_the_cpu() {
    let Some(gpu) = packed_gpu() else { return };
    for (turn, kind) in QuantType::ALL.into_iter().enumerate() {
        let block = u32::try_from(kind.quant().block_weights)
            .expect("small")
            .max(32);
        let shapes = [(1, block), (67, 3 * block), (5, 2304)];
        let variants = [(variant(1, 1), 2), (variant(1, 4), 5), (variant(16, 2), 3)];
        for (index, (rows, inputs)) in shapes.into_iter().enumerate() {
            let (variant, tokens) = variants[(index + turn) % 3];
            let case = case(single(kind, rows, inputs), tokens, turn as u64);
            let seen = case.run(&gpu, variant, tokens + 1);
            let expected = case.expected(0);
            for (index, number) in seen.iter().enumerate() {
                let what = (kind, rows, inputs, variant, index);
                match expected.numbers.get(index) {
                    Some(it) => assert_close(*number, *it, expected.magnitudes[index], &what),
                    None => assert_eq!(number.to_bits(), UNTOUCHED.to_bits(), "{what:?}"),
                }
            }
        }
    }
}

#[test]
fn types_with_one_scale_two_and_none_go_together() {
    let Some(gpu) = packed_gpu() else { return };
    let other = [QuantType::Q6K, QuantType::BF16];
    for (other, lanes) in other.into_iter().zip([1, 8]) {
        let kinds = [QuantType::Q4K, other, QuantType::Q5_0];
        let product = Product {
            matrices: kinds.map(|kind| Matrix { kind, rows: 20 }).to_vec(),
            output_stride: 60,
            tokens: Tokens::Output,
            ..single(QuantType::Q4K, 0, 512)
        };
        let mut case = case(product, 4, 9);
        case.step.output_first = 2;
        case.step.output_tokens = 2;
        let seen = case.run(&gpu, variant(lanes, 2), 2);
        for matrix in 0..3 {
            let expected = case.expected(matrix);
            for (token, row) in (0..2).flat_map(|token| (0..20).map(move |row| (token, row))) {
                let at = (token + 2) * 20 + row;
                let number = seen[token * 60 + matrix * 20 + row];
                let what = (other, matrix, token, row);
                assert_close(number, expected.numbers[at], expected.magnitudes[at], &what);
            }
        }
    }
}

#[test]
fn what_8_bits_lose_is_little() {
    let Some(gpu) = packed_gpu() else { return };
    let inputs = 2048;
    for kind in QuantType::ALL {
        let mut case = Case::new(single(kind, 40, inputs), 1, 3);
        let weights = Random(4).numbers(40 * inputs as usize);
        case.blocks[0] = kind.encode(&weights).expect("whole blocks");
        let seen = case.run(&gpu, variant(1, 1), 1);
        let expected = case.expected(0);
        for (index, number) in seen.iter().enumerate() {
            // Errors of half a step of 1/127 have no direction, so their sum is far below the sum of their sizes.
            let error = (number - expected.numbers[index]).abs() / expected.magnitudes[index];
            assert!(error < 0.5 / 127.0 / 5.0, "{kind:?} {error}");
        }
        let lost = seen.iter().zip(&expected.numbers).zip(&expected.magnitudes);
        let lost = lost.filter(|((seen, it), size)| (*seen - *it).abs() > TOLERANCE * *size);
        assert!(lost.count() > 0, "{kind:?}: nothing was rounded");
    }
}

#[test]
fn there_is_room_for_what_is_packed() {
    let file = crate::reference::tests::bytes(Family::Llama, QuantType::F32);
    let header = gguf::read(&file, None).expect("a header");
    let config = Config::read(&header).expect("can be run");
    let demand = Demand {
        context_tokens: 100,
        sessions: 1,
        batch_tokens: 70,
        logit_rows: 1,
        cache: CacheType::F16,
        has_packed: true,
    };
    let lengths = Lengths::of(&config, &demand);
    let tokens = u32::try_from(lengths.tokens).expect("small");
    let words = [lengths.packed_states, lengths.packed_gated];
    let wanted = [config.embedding, config.feed_forward].map(|width| bytes(width, tokens));
    assert_eq!(words.map(|words| words * 4), wanted);
}
