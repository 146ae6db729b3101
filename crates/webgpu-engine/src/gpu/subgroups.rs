//! Whether the threads of subgroups lie as kernels take for granted: in the order of the workgroup, so that a thread's
//! neighbours by number are those that operations reach. WGSL does not say so, and nearly all devices do it; where one does
//! not, it has no subgroups for us.

use super::{Access, Gpu, GpuError, Source};

/// Threads of a workgroup, as many as kernels have that use subgroups.
const THREADS: u32 = 64;

/// Asks the device. One that cannot run the question has none.
pub(super) async fn are_in_order(gpu: &Gpu) -> Result<bool, GpuError> {
    match asked(gpu).await {
        Err(error) if !error.is_lost() => Ok(false),
        answered => answered,
    }
}

async fn asked(gpu: &Gpu) -> Result<bool, GpuError> {
    let program = gpu.program(&source()).await?;
    let bytes = u64::from(THREADS) * 8;
    let places = gpu.storage("places in subgroups", bytes)?;
    let step = gpu.uniform("no parameters", 16)?;
    let bound = gpu.bind(&program, &[&places], &step)?;
    let mut recorder = gpu.record();
    recorder.dispatch(&bound, [1, 1, 1]);
    recorder.submit();
    let told = gpu.read(&places, 0..bytes).await?;
    for buffer in [&places, &step] {
        buffer.destroy();
    }
    Ok(lie_in_order(&told, gpu.abilities().subgroup_threads))
}

/// Whether each thread's place and the size of its subgroup, two words each, are those of threads in order.
fn lie_in_order(told: &[u8], threads_min: u32) -> bool {
    let (words, _) = told.as_chunks::<4>();
    let (pairs, _) = words.as_chunks::<2>();
    (0u32..).zip(pairs).all(|(thread, pair)| {
        let [place, size] = pair.map(u32::from_le_bytes);
        size.is_power_of_two() && size >= threads_min && place == thread % size
    })
}

/// The question.
pub(super) fn source() -> Source {
    // naga has them without a word and refuses the word; browsers want it.
    let enable = if cfg!(target_family = "wasm") {
        "enable subgroups;\n"
    } else {
        ""
    };
    let wgsl = format!(
        "{enable}@group(0) @binding(0) var<storage, read_write> places: array<vec2<u32>>;
@group(0) @binding(1) var<uniform> step: vec4<u32>;
@compute @workgroup_size({THREADS})
fn main(
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_invocation_id) place: u32,
    @builtin(subgroup_size) size: u32,
) {{
    places[thread] = vec2<u32>(place, size) + step.xy;
}}
"
    );
    Source {
        label: "places in subgroups".to_owned(),
        wgsl,
        storage: vec![Access::Write],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::tests::gpu;

    fn told(place_of: impl Fn(u32) -> [u32; 2]) -> Vec<u8> {
        let words = (0..THREADS).flat_map(place_of);
        words.flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn threads_that_lie_otherwise_are_seen() {
        assert!(lie_in_order(&told(|thread| [thread % 8, 8]), 8));
        // Smaller than was promised, of a size that is no power of two, and every other thread in the same subgroup.
        assert!(!lie_in_order(&told(|thread| [thread % 4, 4]), 8));
        assert!(!lie_in_order(&told(|thread| [thread % 12, 12]), 8));
        assert!(!lie_in_order(&told(|thread| [thread / 2 % 8, 8]), 8));
    }

    #[test]
    fn the_device_tells_where_its_threads_lie() {
        let Some(gpu) = gpu() else { return };
        // All drivers that are known lay them in order.
        let has = gpu.device.features().contains(wgpu::Features::SUBGROUP);
        assert_eq!(gpu.abilities().has_subgroups, has);
    }
}
