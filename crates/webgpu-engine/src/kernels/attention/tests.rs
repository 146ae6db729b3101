//! Both variants, with the splits joined, against the reference.

use super::Attend;
use crate::gpu::Gpu;
use crate::gpu::tests::{gpu, to_bytes, to_floats};
use crate::kernels::Step;
use crate::kernels::tests::{assert_close, noise, run};
use crate::model::CacheType;
use crate::quant::{half_from_float, half_to_float};
use crate::reference::Attention;

/// A step of so many tokens behind this position.
#[derive(Debug, Clone, Copy)]
struct At {
    position: u32,
    tokens: u32,
}

/// `[slot][head][number]`, of all positions that the ring still holds.
fn ring(kernel: &Attend, all: &[f32]) -> Vec<u8> {
    let width = (kernel.kv_heads * kernel.head_size) as usize;
    let kept = kernel.kept_tokens as usize;
    // What no token may see.
    let mut slots = vec![f32::NAN; kept * width];
    for (position, numbers) in all.chunks_exact(width).enumerate() {
        let start = position % kept * width;
        slots[start..start + width].copy_from_slice(numbers);
    }
    match kernel.cache {
        CacheType::F32 => to_bytes(&slots),
        CacheType::F16 => slots
            .iter()
            .flat_map(|number| half_from_float(*number).to_le_bytes())
            .collect(),
    }
}

fn rounded(cache: CacheType, numbers: Vec<f32>) -> Vec<f32> {
    match cache {
        CacheType::F32 => numbers,
        CacheType::F16 => numbers
            .into_iter()
            .map(|number| half_to_float(half_from_float(number)))
            .collect(),
    }
}

/// What both kernels make of it, one after the other.
fn attended(gpu: &Gpu, kernel: &Attend, buffers: [Vec<u8>; 3], at: At) -> Vec<f32> {
    let At { position, tokens } = at;
    let step = Step {
        position,
        tokens,
        ..Step::default()
    };
    let words = kernel.partial_words(position + tokens, tokens);
    let [qkv, keys, values] = buffers;
    // What is not written must not be read.
    let partials = to_bytes(&vec![f32::NAN; usize::try_from(words).expect("small")]);
    let buffers = [qkv, keys, values, partials];
    let partials = run(
        gpu,
        &kernel.source(),
        &buffers,
        step,
        kernel.groups(position, tokens),
        3,
    );
    let outputs = vec![0.0; (tokens * kernel.heads * kernel.head_size) as usize];
    let buffers = [partials, to_bytes(&outputs)];
    let groups = kernel.merge_groups(tokens);
    to_floats(&run(gpu, &kernel.merge_source(), &buffers, step, groups, 1))
}

fn check(gpu: &Gpu, kernel: &Attend, at: At) {
    let [heads, kv_heads, head_size] =
        [kernel.heads, kernel.kv_heads, kernel.head_size].map(|count| count as usize);
    let attention = Attention {
        heads,
        kv_heads,
        head_size,
        scale: kernel.scale,
        soft_cap: kernel.soft_cap,
        window: kernel.window.map(|window| window as usize),
    };
    let all = (at.position + at.tokens) as usize;
    let width = kv_heads * head_size;
    // Large enough for scores that are far apart.
    let spread = |numbers: Vec<f32>| numbers.iter().map(|it| it * 4.0).collect();
    let keys = rounded(kernel.cache, spread(noise(1, all * width)));
    let values = rounded(kernel.cache, noise(2, all * width));
    let row = (heads + 2 * kv_heads) * head_size;
    let qkv = noise(3, at.tokens as usize * row);
    let mut wanted = Vec::new();
    for (token, qkv) in qkv.chunks_exact(row).enumerate() {
        let seen = (at.position as usize + token + 1) * width;
        let queries = &qkv[..heads * head_size];
        wanted.extend(attention.attend(queries, &keys[..seen], &values[..seen]));
    }
    for is_software in [true, false] {
        let buffers = [to_bytes(&qkv), ring(kernel, &keys), ring(kernel, &values)];
        let kernel = Attend {
            is_software,
            ..kernel.clone()
        };
        let found = attended(gpu, &kernel, buffers, at);
        assert_close(&found, &wanted, 1e-5);
    }
}

fn kernel(heads: u32, kv_heads: u32, head_size: u32) -> Attend {
    Attend {
        is_software: false,
        label: "attend".to_owned(),
        heads,
        kv_heads,
        head_size,
        scale: 0.125,
        soft_cap: None,
        window: None,
        kept_tokens: 512,
        cache: CacheType::F16,
        split_tokens: 64,
        batch_tokens: 1,
    }
}

#[test]
fn a_token_attends_to_all_before_it_in_every_shape() {
    let Some(gpu) = gpu() else { return };
    let shapes = [
        (9, 3, 64),
        (4, 1, 256),
        (8, 8, 32),
        (4, 4, 128),
        (7, 1, 80),
        (16, 1, 128),
    ];
    for (index, (heads, kv_heads, head_size)) in shapes.into_iter().enumerate() {
        let cache = [CacheType::F16, CacheType::F32][index % 2];
        let kernel = Attend {
            cache,
            ..kernel(heads, kv_heads, head_size)
        };
        for position in [0, 63, 200] {
            let tokens = 1;
            check(&gpu, &kernel, At { position, tokens });
        }
    }
}

#[test]
fn splits_of_every_length_are_joined() {
    let Some(gpu) = gpu() else { return };
    for split_tokens in [1, 100] {
        let kernel = Attend {
            split_tokens,
            ..kernel(4, 2, 64)
        };
        for position in [0, 99, 100, 129] {
            let tokens = 1;
            check(&gpu, &kernel, At { position, tokens });
        }
    }
}

#[test]
fn tokens_of_a_prompt_see_only_those_before_them() {
    let Some(gpu) = gpu() else { return };
    // As many tokens at once as fit, with or without tokens that are too few for the last workgroup.
    for (heads, kv_heads, head_size) in [(9, 3, 64), (2, 2, 128)] {
        for (split_tokens, batch_tokens) in [(16, 32), (512, 32)] {
            let kernel = Attend {
                split_tokens,
                batch_tokens,
                ..kernel(heads, kv_heads, head_size)
            };
            for position in [0, 61, 130] {
                for tokens in [1, 21] {
                    check(&gpu, &kernel, At { position, tokens });
                }
            }
        }
    }
}

#[test]
fn a_window_hides_what_is_farther_back_also_in_a_ring_that_was_filled_before() {
    let Some(gpu) = gpu() else { return };
    for (window, kept_tokens, batch_tokens) in [(50, 58, 8), (50, 58, 1), (1, 9, 8)] {
        let kernel = Attend {
            batch_tokens,
            window: Some(window),
            kept_tokens,
            split_tokens: 16,
            ..kernel(4, 1, 32)
        };
        for position in [0, 47, 55, 170] {
            for tokens in [1, 8] {
                check(&gpu, &kernel, At { position, tokens });
            }
        }
    }
}

#[test]
fn scores_are_bounded_by_the_soft_cap() {
    let Some(gpu) = gpu() else { return };
    for soft_cap in [0.01, 2.0] {
        let kernel = Attend {
            soft_cap: Some(soft_cap),
            ..kernel(4, 1, 64)
        };
        let (position, tokens) = (90, 2);
        check(&gpu, &kernel, At { position, tokens });
    }
}

#[test]
fn a_step_has_splits_for_what_is_seen_and_not_for_what_could_be_kept() {
    let all = kernel(9, 3, 64);
    assert_eq!(all.groups(0, 1), [3, 1, 1]);
    assert_eq!(all.groups(63, 1), [3, 1, 1]);
    assert_eq!(all.groups(64, 1), [3, 2, 1]);
    assert_eq!(all.groups(60, 8), [3, 2, 8]);
    // One thread a head: as many splits in a workgroup as fill it.
    let software = Attend {
        is_software: true,
        ..all.clone()
    };
    assert_eq!(software.groups(127, 1), [3, 1, 1]);
    assert_eq!(software.groups(128, 1), [3, 2, 1]);
    let window = Attend {
        window: Some(100),
        ..all
    };
    assert_eq!(window.groups(400, 1), [3, 2, 1]);
    assert_eq!(window.splits_max(512), 2);
    assert_eq!(window.partial_words(512, 3), 2 * 3 * 9 * 68);
    let prompt = Attend {
        batch_tokens: 8,
        ..kernel(9, 3, 64)
    };
    assert_eq!(prompt.groups(60, 7), [3, 2, 4]);
    // What the queries of a head of keys need beyond a workgroup's memory is shared by several.
    assert_eq!(kernel(16, 1, 128).groups(0, 1), [2, 1, 1]);
}
