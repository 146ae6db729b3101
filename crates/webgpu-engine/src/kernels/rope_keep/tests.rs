//! Both variants against the reference.

use super::RopeKeep;
use crate::gpu::tests::{gpu, to_bytes, to_floats};
use crate::kernels::Step;
use crate::kernels::tests::{assert_close, noise, run};
use crate::model::{CacheType, Pairs, Rope, RopeScaling, Turns};
use crate::quant::half_to_float;
use crate::reference::norm::rms_norm;

const TOKENS: u32 = 3;
/// The ring's end lies within the step.
const POSITION: u32 = 2_046;
const KEPT: u32 = 16;

fn rope(pairs: Pairs, dimensions: u32) -> Rope {
    Rope {
        pairs,
        dimensions,
        base: 10_000.0,
        window_base: 10_000.0,
        scaling: RopeScaling::None,
        has_factors: false,
    }
}

/// What is kept, as floats.
fn to_kept(bytes: &[u8], cache: CacheType) -> Vec<f32> {
    match cache {
        CacheType::F32 => to_floats(bytes),
        CacheType::F16 => bytes
            .chunks_exact(2)
            .map(|half| half_to_float(u16::from_le_bytes(half.try_into().expect("two bytes"))))
            .collect(),
    }
}

struct Wanted {
    qkv: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// What the reference makes of it. Slots that nothing is written to stay zero.
fn wanted(kernel: &RopeKeep, turns: &Turns, mut qkv: Vec<f32>, weights: &[Vec<f32>; 2]) -> Wanted {
    let size = kernel.head_size as usize;
    let [heads, kv_heads] = [kernel.heads, kernel.kv_heads].map(|count| count as usize);
    let width = kv_heads * size;
    let mut keys = vec![0.0; width * KEPT as usize];
    let mut values = keys.clone();
    let all = (heads + 2 * kv_heads) * size;
    for (token, qkv) in qkv.chunks_exact_mut(all).enumerate() {
        let position = POSITION as usize + token;
        for (head, numbers) in qkv.chunks_exact_mut(size).enumerate() {
            if head < heads + kv_heads {
                if kernel.has_head_norms {
                    rms_norm(numbers, &weights[usize::from(head >= heads)], 1e-6);
                }
                turns.turn(position, numbers);
            }
        }
        let slot = position % KEPT as usize * width;
        let from = heads * size;
        keys[slot..slot + width].copy_from_slice(&qkv[from..from + width]);
        values[slot..slot + width].copy_from_slice(&qkv[from + width..]);
    }
    Wanted { qkv, keys, values }
}

fn check(gpu: &crate::gpu::Gpu, kernel: &RopeKeep) {
    let rope = rope(kernel.pairs, kernel.rope_dimensions);
    let turns = Turns::new(&rope, false, None);
    let size = kernel.head_size as usize;
    let heads = kernel.heads + 2 * kernel.kv_heads;
    let qkv = noise(1, (heads * kernel.head_size * TOKENS) as usize);
    let weights = [2, 3].map(|seed| noise(seed, size));
    let mut buffers = vec![to_bytes(&qkv)];
    if kernel.has_head_norms {
        buffers.extend(weights.iter().map(|weights| to_bytes(weights)));
    }
    buffers.push(to_bytes(&turns.table(POSITION, TOKENS)));
    let kept = u64::from(KEPT * kernel.kv_heads * kernel.head_size) * kernel.cache.bytes();
    buffers.extend([(); 2].map(|()| vec![0; usize::try_from(kept).expect("small")]));
    let wanted = wanted(kernel, &turns, qkv, &weights);
    let step = Step {
        position: POSITION,
        tokens: TOKENS,
        ..Step::default()
    };
    // Of what is rounded to 16 bits: half a unit of 11 bits, or a whole one where a device cuts off.
    let share = match kernel.cache {
        CacheType::F16 => 1e-3,
        CacheType::F32 => 2e-6,
    };
    for is_software in [true, false] {
        let source = kernel.variant(is_software);
        let run = |result| run(gpu, &source, &buffers, step, kernel.groups(TOKENS), result);
        let last = buffers.len() - 1;
        assert_close(&to_floats(&run(0)), &wanted.qkv, 2e-6);
        assert_close(&to_kept(&run(last - 1), kernel.cache), &wanted.keys, share);
        assert_close(&to_kept(&run(last), kernel.cache), &wanted.values, share);
    }
}

#[test]
fn heads_are_normed_turned_and_kept_as_in_the_reference() {
    let Some(gpu) = gpu() else { return };
    for (heads, kv_heads, head_size) in [(9, 3, 64), (4, 1, 256), (2, 2, 32)] {
        for pairs in [Pairs::Neighbours, Pairs::Halves] {
            for (has_head_norms, rope_dimensions) in [
                (false, head_size),
                (true, head_size),
                (true, head_size / 2),
                (false, head_size / 2),
            ] {
                let cache = if heads == 9 || has_head_norms {
                    CacheType::F16
                } else {
                    CacheType::F32
                };
                let kernel = RopeKeep {
                    label: "rope".to_owned(),
                    heads,
                    kv_heads,
                    head_size,
                    pairs,
                    rope_dimensions,
                    has_head_norms,
                    epsilon: 1e-6,
                    kept_tokens: KEPT,
                    cache,
                };
                check(&gpu, &kernel);
            }
        }
    }
}
