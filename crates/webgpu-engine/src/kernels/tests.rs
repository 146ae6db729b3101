//! What tests of kernels have in common: one dispatch of one kernel.

use super::{STEP_BYTES, Step};
use crate::gpu::tests::{to_bytes, to_floats};
use crate::gpu::{Gpu, Source};

/// Runs a kernel once on buffers with these contents; returns what the buffer of this index holds then.
pub(super) fn run(
    gpu: &Gpu,
    source: &Source,
    buffers: &[Vec<u8>],
    step: Step,
    groups: [u32; 3],
    result: usize,
) -> Vec<u8> {
    pollster::block_on(async {
        let program = gpu.program(source).await.unwrap_or_else(|error| {
            panic!("{error}\n{}", source.wgsl);
        });
        let storage: Vec<_> = buffers
            .iter()
            .map(|bytes| {
                let buffer = gpu.storage("test", bytes.len() as u64).expect("fits");
                gpu.write(&buffer, 0, bytes);
                buffer
            })
            .collect();
        let parameters = gpu.uniform("step", STEP_BYTES).expect("fits");
        gpu.write(&parameters, 0, &step.to_bytes());
        let lent: Vec<_> = storage.iter().collect();
        let bound = gpu.bind(&program, &lent, &parameters).expect("fits");
        let mut recorder = gpu.record();
        recorder.dispatch(&bound, groups);
        recorder.submit();
        let bytes = buffers[result].len() as u64;
        gpu.read(&storage[result], 0..bytes)
            .await
            .expect("is there")
    })
}

/// Numbers between -1 and 1, the same for the same seed.
pub(super) fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f32::from(u16::try_from(state >> 48).expect("16 bits")) / 32_768.0 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// That each number is the wanted one but for this share of the largest.
pub(super) fn assert_close(found: &[f32], wanted: &[f32], share: f32) {
    assert_eq!(found.len(), wanted.len());
    let most = wanted.iter().fold(1e-9f32, |most, it| most.max(it.abs()));
    for (at, (one, other)) in found.iter().zip(wanted).enumerate() {
        let apart = (one - other).abs();
        assert!(apart <= share * most, "{one} is not {other} at {at}");
    }
}

#[test]
fn a_step_lies_as_kernels_read_it() {
    let Some(gpu) = crate::gpu::tests::gpu() else {
        return;
    };
    let source = Source {
        label: "step".to_owned(),
        wgsl: format!(
            "{}@group(0) @binding(0) var<storage, read_write> results: array<f32>;
@group(0) @binding(1) var<uniform> step: Step;
@compute @workgroup_size(1) fn main() {{
    results[0] = f32(step.position);
    results[1] = f32(step.seed_high);
    results[2] = step.top_p;
    results[3] = f32(step.alternatives);
}}",
            Step::WGSL
        ),
        storage: vec![crate::gpu::Access::Write],
    };
    let step = Step {
        position: 7,
        seed: 5 << 32,
        top_p: 0.5,
        alternatives: 3,
        ..Step::default()
    };
    let results = run(&gpu, &source, &[to_bytes(&[0.0; 4])], step, [1, 1, 1], 0);
    assert_eq!(to_floats(&results), [7.0, 5.0, 0.5, 3.0]);
}
