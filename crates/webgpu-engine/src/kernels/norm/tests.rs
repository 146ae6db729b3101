//! Both variants against the reference.

use super::AddNorm;
use crate::gpu::tests::{gpu, to_bytes, to_floats};
use crate::kernels::Step;
use crate::kernels::tests::{assert_close, noise, run};
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
