//! How many bytes a second the adapter can stream: the bound of every decode, and what speeds are told as a share of.

use super::{Access, Gpu, GpuError, Source};

/// The length of the buffer that is read: beyond the caches of most adapters, and WebGPU's default for a binding.
const BYTES: u64 = 128 << 20;

/// Threads in all, of which each reads every so-manieth vector.
const THREADS: u64 = 65_536;

/// Passes over the buffer in one measurement.
const PASSES: u32 = 4;

/// Measurements; the best counts, since everything else on the machine only slows them down.
const ROUNDS: u32 = 5;

/// What the adapter can stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bandwidth {
    /// Bytes a second.
    pub bytes_per_second: f64,
}

/// Measures it. `seconds` is a clock, of which only differences count.
#[expect(
    clippy::cast_precision_loss,
    reason = "a count of bytes far below 2⁵³ becomes a rate"
)]
pub async fn bandwidth(gpu: &Gpu, seconds: impl Fn() -> f64) -> Result<Bandwidth, GpuError> {
    let bytes = BYTES.min(gpu.abilities().binding_bytes_max) / (16 * THREADS) * (16 * THREADS);
    let program = gpu.program(&source(bytes)).await?;
    let from = gpu.storage("bandwidth", bytes)?;
    let to = gpu.storage("bandwidth sums", THREADS * 4)?;
    let step = gpu.uniform("bandwidth step", 16)?;
    let bound = gpu.bind(&program, &[&from, &to], &step)?;
    let mut best = 0.0_f64;
    for _ in 0..=ROUNDS {
        gpu.finish().await?;
        let start = seconds();
        let mut recorder = gpu.record();
        for _ in 0..PASSES {
            recorder.dispatch(&bound, [1024, 1, 1]);
        }
        recorder.submit();
        gpu.finish().await?;
        let took = seconds() - start;
        if took > 0.0 {
            best = best.max((bytes * u64::from(PASSES)) as f64 / took);
        }
    }
    Ok(Bandwidth {
        bytes_per_second: best,
    })
}

/// Each thread adds up every 65,536th vector, so that neighbours read neighbouring ones.
fn source(bytes: u64) -> Source {
    let turns = bytes / 16 / THREADS;
    let wgsl = format!(
        "@group(0) @binding(0) var<storage, read> data: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> sums: array<u32>;
@group(0) @binding(2) var<uniform> step: vec4<u32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
    var sum = step;
    for (var turn = 0u; turn < {turns}u; turn++) {{
        sum += data[turn * {THREADS}u + id.x];
    }}
    sums[id.x] = sum.x + sum.y + sum.z + sum.w;
}}
"
    );
    Source {
        label: "bandwidth".to_owned(),
        wgsl,
        storage: vec![Access::Read, Access::Write],
    }
}
