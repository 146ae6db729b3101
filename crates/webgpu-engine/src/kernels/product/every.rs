//! Kernels of all types and variants, for tests that compile them.

use super::{Matrix, Numbers, Product, Reduce, Tokens, Variant};
use crate::gpu::Source;
use crate::model::Activation;
use crate::quant::QuantType;

/// Each type with two variants, one type with each number of lanes and columns, and each thing that a product can do
/// besides: not all with all, since browsers take a good part of a second for each.
///
/// Texts with operations of subgroups begin with `enable subgroups;` only where this is compiled for browsers.
pub(in crate::kernels) fn every() -> Vec<Source> {
    let types = QuantType::ALL.into_iter().flat_map(|kind| {
        let variants = [(1, 4), (16, 1)];
        variants.map(|(lanes, columns)| (single(kind), variant(lanes, columns, Reduce::Memory)))
    });
    let variants = [1, 4, 8, 16, 32, 64].into_iter().enumerate();
    let variants = variants.flat_map(|(index, lanes)| {
        let columns = [1, 2, 4, 8].into_iter().enumerate();
        columns.map(move |(turn, columns)| {
            let reduce = if (index + turn) % 2 == 0 {
                Reduce::Memory
            } else {
                Reduce::Subgroups
            };
            (single(QuantType::Q4_0), variant(lanes, columns, reduce))
        })
    });
    let besides = besides().into_iter().flat_map(|product| {
        let variants = [(1, 1), (16, 4)];
        variants
            .map(|(lanes, columns)| (product.clone(), variant(lanes, columns, Reduce::Subgroups)))
    });
    let abilities = crate::kernels::all_abilities();
    types
        .chain(variants)
        .chain(besides)
        .map(|(product, variant)| product.source(variant, &abilities))
        .collect()
}

/// Each type, and each thing that a product can do besides.
pub(in crate::kernels) fn samples() -> Vec<Product> {
    let types = QuantType::ALL.into_iter().map(single);
    types.chain(besides()).collect()
}

const fn variant(lanes: u32, columns: u32, reduce: Reduce) -> Variant {
    Variant {
        lanes,
        // As the plan takes them: several rows share states where there is one thread a row, or one token.
        rows: match (lanes, columns) {
            (1, _) => 4,
            (_, 1) => 2,
            (_, _) => 1,
        },
        columns,
        reduce,
        numbers: Numbers::Float,
    }
}

fn single(kind: QuantType) -> Product {
    Product {
        label: format!("product {kind:?}"),
        matrices: vec![Matrix { kind, rows: 576 }],
        inputs: 1536,
        has_bias: false,
        gated: None,
        soft_cap: None,
        output_first: 0,
        output_stride: 576,
        tokens: Tokens::All,
    }
}

/// Three matrices with biases, both gates, and a head with many rows.
fn besides() -> Vec<Product> {
    let kinds = [QuantType::Q5K, QuantType::Q6K, QuantType::Q8_0];
    let three = kinds.map(|kind| Matrix { kind, rows: 192 });
    let gate = |activation| Product {
        matrices: vec![three[0]; 2],
        gated: Some(activation),
        ..single(QuantType::Q5K)
    };
    let head = Matrix {
        kind: QuantType::Q8_0,
        rows: 1 << 20,
    };
    vec![
        Product {
            matrices: three.to_vec(),
            has_bias: true,
            ..single(QuantType::Q5K)
        },
        gate(Activation::Silu),
        gate(Activation::Gelu),
        Product {
            matrices: vec![head],
            soft_cap: Some(30.0),
            tokens: Tokens::Output,
            ..single(QuantType::Q8_0)
        },
    ]
}
