//! The random numbers themselves.

use crate::gpu::Access;
use crate::gpu::Source;
use crate::kernels::Step;
use crate::kernels::sampling::{Sampling, SamplingMethod, text::Shape};
use crate::kernels::tests::run;

/// `-ln(-ln(u))` with `u = (number / 2¹¹ + 1/2) / 2⁵³`. Near 1 by the distance to 1: the sum in the CPU's rules needs a
/// bit more there than its type has, which makes a difference once in 2⁴⁰ numbers.
#[expect(
    clippy::cast_precision_loss,
    reason = "53 bits are what the type holds"
)]
pub(super) fn gumbel(number: u64) -> f64 {
    const STEP: f64 = f64::EPSILON / 2.0;
    let place = number >> 11;
    if place < 1 << 52 {
        let uniform = (place as f64 + 0.5) * STEP;
        -(-uniform.ln()).ln()
    } else {
        let rest = (((1u64 << 53) - 1 - place) as f64 + 0.5) * STEP;
        -(-(-rest).ln_1p()).ln()
    }
}

/// A step of `SplitMix64`.
pub(super) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Functions of the race, with another entry: for each number, it mixed and its Gumbel number.
fn source() -> Source {
    let stages = Shape::new(Sampling { vocabulary: 64 }, true).stages(SamplingMethod::Draw);
    let race = &stages[2].source.wgsl;
    let functions = race.split("@compute").next().expect("an entry");
    let functions = functions.replace("@binding(0)", "@binding(2)");
    let functions = functions.replace("@binding(1)", "@binding(3)");
    let wgsl = format!(
        "{functions}
@group(0) @binding(0) var<storage, read> numbers: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> outputs: array<vec4<u32>>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
    let number = numbers[id.x];
    outputs[id.x] = vec4<u32>(mix64(number), bitcast<u32>(gumbel(number)), step.draw);
}}"
    );
    Source {
        label: "numbers".to_owned(),
        wgsl,
        storage: vec![Access::Read, Access::Write, Access::Write],
    }
}

#[test]
fn random_numbers_are_those_of_the_cpu() {
    let Some(gpu) = crate::gpu::tests::gpu() else {
        return;
    };
    let half = 1u64 << 63;
    let mut numbers: Vec<u64> = (0..8192).map(mix).collect();
    for near in 0..64 {
        numbers.extend([near << 11, u64::MAX - (near << 11)]);
        numbers.extend([half + (near << 11), half - (near << 11)]);
        numbers.extend([1 << near, u64::MAX >> near, u64::MAX << near]);
        // Of every size, and as near to 1.
        numbers.extend([mix(near) >> near, !(mix(near) >> near)]);
    }
    let words = numbers.iter().flat_map(|number| number.to_le_bytes());
    let outputs = vec![0; 16 * numbers.len()];
    let buffers = [words.collect(), outputs, vec![0; 1 << 16]];
    let groups = [u32::try_from(numbers.len() / 64).expect("fits"), 1, 1];
    let outputs = run(&gpu, &source(), &buffers, Step::default(), groups, 1);
    let mut worst = [0.0_f64; 2];
    for (number, output) in numbers.iter().zip(outputs.chunks_exact(16)) {
        let mixed = u64::from_le_bytes(output[..8].try_into().expect("eight"));
        assert_eq!(mixed, mix(*number));
        let found = f32::from_le_bytes(output[8..12].try_into().expect("four"));
        let exact = gumbel(*number);
        let error = (f64::from(found) - exact).abs();
        let place = usize::from(!(-2.0..16.0).contains(&exact));
        worst[place] = worst[place].max(error);
    }
    assert!(worst[0] < 2e-6 && worst[1] < 4e-6, "{worst:?}");
}
