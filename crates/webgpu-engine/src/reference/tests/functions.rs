//! Each function of the reference against values worked out by hand or by its formula.

use crate::model::{Activation, Pairs, Rope, RopeScaling};
use crate::quant::QuantType;
use crate::reference::activation::{add, gated, gelu, silu, soft_cap};
use crate::reference::attention::softmax;
use crate::reference::norm::rms_norm;
use crate::reference::product::dot;
use crate::reference::rope::Turns;
use crate::reference::{Attention, Matrix};

fn assert_near(found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len());
    for (one, other) in found.iter().zip(wanted) {
        assert!((one - other).abs() < 2e-6, "{found:?} is not {wanted:?}");
    }
}

#[test]
fn a_norm_divides_by_the_root_of_the_mean_square() {
    // Mean squares of 12.5 and 0.5, and 0.5 more.
    let mut vectors = [3.0, 4.0, 0.0, 1.0];
    rms_norm(&mut vectors, &[1.0, 2.0], 0.5);
    let root = 13f32.sqrt();
    assert_near(&vectors, &[3.0 / root, 8.0 / root, 0.0, 2.0]);
}

#[test]
fn a_product_has_a_number_for_each_row_and_vector() {
    let weights: Vec<f32> = (0..20u8).map(f32::from).collect();
    let bytes = QuantType::F32.encode(&weights).expect("numbers");
    let matrix = Matrix::new(QuantType::F32, 10, bytes.as_slice()).expect("two rows");
    assert_eq!((matrix.rows(), matrix.columns()), (2, 10));
    assert_eq!(matrix.row(1).as_deref(), Some(&weights[10..]));
    assert_eq!(matrix.row(2), None);
    let mut vectors = vec![1.0; 10];
    vectors.extend((0..10).map(|place| if place == 9 { 2.0 } else { 0.0 }));
    assert_eq!(matrix.product(&vectors), [45.0, 145.0, 18.0, 38.0]);
    assert!(Matrix::new(QuantType::F32, 3, bytes.as_slice()).is_err());
    assert!(Matrix::new(QuantType::Q4_0, 10, bytes.as_slice()).is_err());
    assert!(Matrix::new(QuantType::F32, 0, bytes.as_slice()).is_err());
}

#[test]
fn products_are_those_of_the_decoded_weights_for_every_type() {
    for kind in QuantType::ALL {
        let weights: Vec<f32> = (0..1024u16)
            .map(|number| f32::from(number * 31 % 97) / 97.0 - 0.5)
            .collect();
        let bytes = kind.encode(&weights).expect("whole blocks");
        let mut decoded = vec![0.0; 1024];
        kind.decode(&bytes, &mut decoded).expect("whole blocks");
        let matrix = Matrix::new(kind, 512, bytes).expect("two rows");
        let vector: Vec<f32> = weights[..512].iter().map(|it| it * 3.0).collect();
        let wanted: Vec<f32> = decoded.chunks(512).map(|row| dot(row, &vector)).collect();
        assert_eq!(matrix.product(&vector), wanted, "{kind:?}");
        assert!((wanted[0] - 3.0 * dot(&weights[..512], &weights[..512])).abs() < 8.0);
    }
}

#[test]
fn activations_have_the_values_of_their_formulas() {
    assert_near(&[silu(1.0), silu(-2.0)], &[0.731_058_6, -0.238_405_84]);
    // The formula in 64 bits.
    assert_near(&[gelu(1.0), gelu(-0.5)], &[0.841_192, -0.154_286]);
    assert_near(&[soft_cap(1.0, 2.0)], &[2.0 * 0.462_117_16]);
    let mut gates = [1.0, -2.0];
    gated(Activation::Silu, &mut gates, &[2.0, 1.0]);
    assert_near(&gates, &[1.462_117_2, -0.238_405_84]);
    let mut sums = [1.0, 2.0, 3.0, 4.0];
    add(&mut sums, &[0.5, 1.0]);
    assert_near(&sums, &[1.5, 3.0, 3.5, 5.0]);
}

const ROPE: Rope = Rope {
    pairs: Pairs::Neighbours,
    dimensions: 4,
    base: 100.0,
    window_base: 10_000.0,
    scaling: RopeScaling::None,
    has_factors: false,
};

fn turned(turns: &Turns, position: usize, head: [f32; 5]) -> [f32; 5] {
    let mut head = head;
    turns.turn(position, &mut head);
    head
}

#[test]
fn pairs_turn_with_the_position_and_the_rest_stays() {
    // The second pair turns a tenth as fast, with a window a hundredth.
    let [(s1, c1), (s2, c2), (s3, c3)] = [3f32, 0.3, 0.03].map(f32::sin_cos);
    let turns = Turns::new(&ROPE, false, None);
    let head = [1.0, 2.0, 3.0, 4.0, 9.0];
    let neighbours = [
        c1 - 2.0 * s1,
        s1 + 2.0 * c1,
        3.0 * c2 - 4.0 * s2,
        3.0 * s2 + 4.0 * c2,
        9.0,
    ];
    assert_near(&turned(&turns, 3, head), &neighbours);
    let halves = Rope {
        pairs: Pairs::Halves,
        ..ROPE
    };
    let wanted = |s: f32, c: f32| {
        [
            c1 - 3.0 * s1,
            2.0 * c - 4.0 * s,
            s1 + 3.0 * c1,
            2.0 * s + 4.0 * c,
            9.0,
        ]
    };
    let turns = Turns::new(&halves, false, None);
    assert_near(&turned(&turns, 3, head), &wanted(s2, c2));
    let turns = Turns::new(&halves, true, None);
    assert_near(&turned(&turns, 3, head), &wanted(s3, c3));
}

/// The angles of both pairs at the first position.
fn angles(turns: &Turns) -> [f32; 2] {
    let [c1, s1, c2, s2, _] = turned(turns, 1, [1.0, 0.0, 1.0, 0.0, 0.0]);
    [s1.atan2(c1), s2.atan2(c2)]
}

#[test]
fn factors_and_stretching_slow_turns_down() {
    let scaled = |scaling| Rope { scaling, ..ROPE };
    let angles_of =
        |rope: Rope, has_window, factors| angles(&Turns::new(&rope, has_window, factors));
    let factors: &[f32] = &[2.0, 4.0];
    assert_near(&angles_of(ROPE, false, Some(factors)), &[0.5, 0.025]);
    let linear = scaled(RopeScaling::Linear(2.0));
    assert_near(&angles_of(linear, false, None), &[0.5, 0.05]);
    assert_near(&angles_of(linear, true, None), &[1.0, 0.01]);
}

#[test]
fn yarn_divides_slow_turns_and_keeps_quick_ones() {
    // Eight pairs over a context of 1,000 tokens: those that turn more than 32 times and less than once have the numbers
    // 16 · ln(1000/2π/32) / (2 ln 100) = 2.79 and 8.81, which become 2 and 9.
    let yarn = Rope {
        dimensions: 16,
        scaling: RopeScaling::Yarn {
            factor: 4.0,
            original_context: 1000,
            beta_fast: 32.0,
            beta_slow: 1.0,
            magnitude: 1.5,
        },
        ..ROPE
    };
    let mut head = [1.0, 0.0].repeat(8);
    Turns::new(&yarn, false, None).turn(1, &mut head);
    let pairs: Vec<&[f32]> = head.chunks(2).collect();
    let bare = |pair: u8| 100f32.powf(-f32::from(pair) / 8.0);
    for (pair, wanted) in [
        (0u8, bare(0)),
        (2, bare(2)),
        (5, bare(5) * (1.0 - 3.0 / 7.0 * 0.75)),
        (7, bare(7) * (1.0 - 5.0 / 7.0 * 0.75)),
    ] {
        let found = pairs[usize::from(pair)];
        let (sin, cos) = wanted.sin_cos();
        assert_near(found, &[1.5 * cos, 1.5 * sin]);
    }
}

const ATTENTION: Attention = Attention {
    heads: 2,
    kv_heads: 1,
    head_size: 1,
    scale: 0.5,
    soft_cap: None,
    window: None,
};

#[test]
fn attention_sums_values_by_their_shares() {
    assert_near(&softmax(vec![0.0, 3f32.ln()]), &[0.25, 0.75]);
    assert_near(&softmax(vec![1000.0, 1000.0]), &[0.5, 0.5]);
    // Scores of the first head: 0 and ln 3; of the second: all alike.
    let keys = [0.0, 2.0 * 3f32.ln()];
    let values = [4.0, 8.0];
    let both = ATTENTION.attend(&[1.0, 0.0], &keys, &values);
    assert_near(&both, &[7.0, 6.0]);
    let capped = Attention {
        soft_cap: Some(0.5),
        ..ATTENTION
    };
    let share = (0.5 * (2.0 * 3f32.ln()).tanh()).exp();
    let wanted = 8.0 - 4.0 / (1.0 + share);
    assert_near(&capped.attend(&[1.0, 0.0], &keys, &values), &[wanted, 6.0]);
    let last = Attention {
        window: Some(1),
        ..ATTENTION
    };
    assert_near(&last.attend(&[1.0, 0.0], &keys, &values), &[8.0, 8.0]);
}

#[test]
fn heads_of_queries_share_heads_of_keys_in_order() {
    let attention = Attention {
        heads: 4,
        kv_heads: 2,
        ..ATTENTION
    };
    let outputs = attention.attend(&[1.0; 4], &[0.0; 2], &[3.0, 5.0]);
    assert_near(&outputs, &[3.0, 3.0, 5.0, 5.0]);
}
