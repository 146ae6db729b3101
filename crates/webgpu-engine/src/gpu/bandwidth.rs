//! How many bytes a second the adapter can stream: the bound of every decode, and what speeds are told as a share of.

use super::{Access, Gpu, GpuError, Source};

/// The most that is read in a pass: beyond the caches of all adapters. Less where the adapter lends less.
const BYTES_MAX: u64 = 512 << 20;

/// Threads in all, of which each reads every so-manieth vector: as many as the largest cards keep under way.
const THREADS: u64 = 1 << 18;

/// Workgroups of 64 threads.
const GROUPS: u32 = 4096;

/// Passes of the shorter and of the longer run; what a submit and its wait cost is in both, and in no difference.
const PASSES: [u32; 2] = [4, 20];

/// Rounds. Of each length the shortest counts, since everything else on the machine only slows it down.
const ROUNDS: u32 = 4;

/// What the adapter can stream; 0 where the clock was too coarse to tell.
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
    let turn = 16 * THREADS;
    let bytes = BYTES_MAX.min(gpu.abilities().binding_bytes_max) / turn * turn;
    let program = gpu.program(&source(bytes)).await?;
    let from = gpu.storage("bandwidth", bytes)?;
    let to = gpu.storage("bandwidth sums", THREADS * 4)?;
    let step = gpu.uniform("bandwidth step", 16)?;
    let bound = gpu.bind(&program, &[&from, &to], &step)?;
    let mut least = [f64::INFINITY; 2];
    // The first round only warms up.
    for round in 0..=ROUNDS {
        for (least, passes) in least.iter_mut().zip(PASSES) {
            gpu.finish().await?;
            let start = seconds();
            let mut recorder = gpu.record();
            for _ in 0..passes {
                recorder.dispatch(&bound, [GROUPS, 1, 1]);
            }
            recorder.submit();
            gpu.finish().await?;
            let took = seconds() - start;
            if round > 0 {
                *least = least.min(took);
            }
        }
    }
    for buffer in [&from, &to, &step] {
        buffer.destroy();
    }
    let [shorter, longer] = PASSES;
    let [short, long] = least;
    let read = bytes * u64::from(longer - shorter);
    Ok(Bandwidth {
        bytes_per_second: if long > short {
            read as f64 / (long - short)
        } else {
            0.0
        },
    })
}

/// Each thread adds up every 262,144th vector, so that neighbours read neighbouring ones.
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
