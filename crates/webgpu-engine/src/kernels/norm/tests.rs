//! Both variants against the reference.

use super::AddNorm;
use crate::gpu::tests::{gpu, to_bytes, to_floats};
use crate::kernels::tests::{assert_close, noise, run};
use crate::kernels::{Step, packed};
use crate::reference::activation::add;
use crate::reference::norm::rms_norm;

const TOKENS: u32 = 3;

#[test]
fn norms_are_those_of_the_reference() {
    let Some(gpu) = gpu() else { return };
    for width in [4u32, 64, 576, 640, 1_028, 4_096] {
        for (has_addend, has_post_norm) in [(false, false), (true, false), (true, true)] {
            let norm = AddNorm {
                label: "norm".to_owned(),
                width,
                epsilon: 1e-5,
                has_addend,
                has_post_norm,
                is_packed: false,
            };
            let one = width as usize;
            let count = one * TOKENS as usize;
            let states = noise(1, count);
            let mut addends = noise(2, count);
            let [post_weights, weights] = [3, 4].map(|seed| noise(seed, one));
            let mut buffers = vec![to_bytes(&states)];
            if has_addend {
                buffers.push(to_bytes(&addends));
            }
            if has_post_norm {
                buffers.push(to_bytes(&post_weights));
                rms_norm(&mut addends, &post_weights, 1e-5);
            }
            buffers.push(to_bytes(&weights));
            buffers.push(to_bytes(&vec![0.0; count]));
            let mut sums = states;
            if has_addend {
                add(&mut sums, &addends);
            }
            let mut wanted = sums.clone();
            rms_norm(&mut wanted, &weights, 1e-5);
            for is_software in [true, false] {
                let source = norm.variant(is_software);
                let run = |result| {
                    let groups = norm.groups(TOKENS);
                    let read = run(&gpu, &source, &buffers, Step::default(), groups, result);
                    to_floats(&read)
                };
                assert_close(&run(0), &sums, 2e-6);
                assert_close(&run(buffers.len() - 1), &wanted, 2e-6);
            }
        }
    }
}

#[test]
fn outputs_are_packed_beside_the_floats() {
    let Some(gpu) = gpu().filter(|gpu| gpu.abilities().has_packed_dot) else {
        return;
    };
    for width in [32u32, 576, 4_096] {
        let norm = AddNorm {
            label: "norm".to_owned(),
            width,
            epsilon: 1e-5,
            has_addend: true,
            has_post_norm: false,
            is_packed: true,
        };
        let count = (width * TOKENS) as usize;
        let empty = vec![0; usize::try_from(packed::bytes(width, TOKENS)).expect("small")];
        let buffers = [
            to_bytes(&noise(1, count)),
            to_bytes(&noise(2, count)),
            to_bytes(&noise(3, width as usize)),
            to_bytes(&vec![0.0; count]),
            empty,
        ];
        for is_software in [true, false] {
            let source = norm.variant(is_software);
            let groups = norm.groups(TOKENS);
            let read = |result| run(&gpu, &source, &buffers, Step::default(), groups, result);
            let (floats, packed) = (to_floats(&read(3)), read(4));
            let groups = floats.chunks_exact(32).zip(packed.chunks_exact(48));
            assert_eq!(groups.len(), count / 32);
            for (floats, packed) in groups {
                let scale = to_floats(&packed[32..36])[0];
                let most = floats.iter().fold(0f32, |most, it| most.max(it.abs()));
                assert!((scale * 127.0 - most).abs() <= 1e-5 * most);
                for (float, number) in floats.iter().zip(&packed[..32]) {
                    let unpacked = f32::from(number.cast_signed()) * scale;
                    assert!((unpacked - float).abs() <= 0.51 * scale);
                }
            }
        }
    }
}
