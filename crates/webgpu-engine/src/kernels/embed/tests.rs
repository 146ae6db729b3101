//! Embeddings against the CPU's decoding.

use super::*;
use crate::gpu::tests::{gpu, to_bytes, to_floats};
use crate::kernels::Step;
use crate::kernels::product::tests::{Random, buffer};
use crate::kernels::tests::run;
use crate::quant::half_to_float;
use crate::reference::Matrix;

/// Runs it for these tokens with room for one more, which stays -1.
fn states(embed: &Embed, blocks: &[u8], ids: &[u32]) -> Option<Vec<f32>> {
    let gpu = gpu()?;
    let tokens = u32::try_from(ids.len()).expect("few");
    let step = Step {
        tokens,
        ..Step::default()
    };
    let room = (ids.len() + 1) * embed.width as usize;
    let buffers = [
        ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
        buffer(embed.kind, blocks),
        to_bytes(&vec![-1.0; room]),
    ];
    let source = embed.source(gpu.abilities());
    let groups = embed.groups(tokens + 1);
    Some(to_floats(&run(&gpu, &source, &buffers, step, groups, 2)))
}

#[test]
fn the_rows_of_tokens_become_states() {
    for (seed, kind) in (0..).zip(QuantType::ALL) {
        let (rows, width) = (9, 768);
        let blocks = Random(seed).blocks(kind, rows * width);
        let embed = Embed {
            label: format!("embed {kind:?}"),
            kind,
            rows: 9,
            first_row: 0,
            width: 768,
            scale: 2.5,
        };
        let ids = [8, 0, 3, 3, 1];
        let Some(seen) = states(&embed, &blocks, &ids) else {
            return;
        };
        let matrix = Matrix::new(kind, width, &*blocks).expect("whole rows");
        for (id, seen) in ids.iter().zip(seen.chunks_exact(width)) {
            let row = matrix.row(*id as usize).expect("is there");
            let most = row
                .iter()
                .fold(0.0f32, |most, weight| most.max(weight.abs()));
            for (weight, seen) in row.iter().zip(seen) {
                let error = (seen - 2.5 * weight).abs();
                assert!(error <= 1e-6 * most, "{kind:?} {seen} {weight}");
            }
        }
        let untouched = vec![-1.0; width];
        assert_eq!(seen[5 * width..], untouched);
    }
}

#[test]
fn tokens_of_other_slices_are_left_alone() {
    let embed = Embed {
        label: "embed".to_owned(),
        kind: QuantType::F32,
        rows: 2,
        first_row: 10,
        width: 32,
        scale: 1.0,
    };
    let rows: Vec<_> = (0..64u8).map(f32::from).collect();
    let Some(seen) = states(&embed, &to_bytes(&rows), &[9, 10, 11, 12, u32::MAX]) else {
        return;
    };
    let expected = [vec![-1.0; 32], rows, vec![-1.0; 96]].concat();
    assert_eq!(seen, expected);
}

#[test]
fn every_float_of_16_bits_is_read_exactly() {
    let embed = Embed {
        label: "embed".to_owned(),
        kind: QuantType::F16,
        rows: 64,
        first_row: 0,
        width: 1024,
        scale: 1.0,
    };
    let blocks: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let ids: Vec<_> = (0..64).collect();
    let Some(seen) = states(&embed, &blocks, &ids) else {
        return;
    };
    for (half, seen) in (0..=u16::MAX).zip(seen) {
        let float = half_to_float(half);
        // Devices need not know infinity.
        if float.is_finite() {
            assert_eq!(seen.to_bits(), float.to_bits(), "{half:#x}");
        }
    }
}
