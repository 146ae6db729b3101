//! Packing and products of packed numbers, against the CPU's.

use super::super::tests::run;
use super::{Pack, bytes};
use crate::gpu::tests::{gpu, to_bytes, to_floats};
use crate::kernels::Step;
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

/// Numbers between -1 and 1 that look random (`SplitMix64`).
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let numbers = (1..=count as u64).map(|index| {
        let mut bits = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let upper = u16::try_from((bits ^ (bits >> 31)) >> 48).expect("16 bits");
        f32::from(upper) / 32_768.0 - 1.0
    });
    numbers.collect()
}

#[test]
fn vectors_are_packed_as_the_reference_packs_them() {
    let Some(gpu) = gpu().filter(|gpu| gpu.abilities().has_packed_dot) else {
        return;
    };
    for (count, tokens) in [(1, 1), (3, 2), (18, 1), (64, 3), (80, 2)] {
        let mut floats = numbers(u64::from(count), GROUP * (count * tokens) as usize);
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
