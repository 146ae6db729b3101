//! Tuning: what is faster is taken, kept as text for the same adapter, and answers stay what they were.

use std::cell::Cell;

use super::answers::{all, request, session};
use super::models::farthest_of;
use super::*;
use crate::gpu::Wish;
use crate::gpu::tests::open;
use crate::kernels::{Reduce, Tile};
use crate::plan::{Shape, Tuned};
use crate::run::Tuning;

/// An adapter whose kernels are those of a card, and a model on it.
fn on_card(settings: Settings) -> Option<(Arc<Engine>, Vec<u8>)> {
    let wish = Wish {
        is_card: true,
        ..Wish::default()
    };
    let gpu = Arc::new(open(wish)?);
    let file = bytes(Family::Llama, QuantType::Q4_0);
    let engine = load(&gpu, &file, settings).expect("can be run");
    Some((engine, file))
}

/// Tunes by a clock by which everything that is measured takes `pace` times as long as what came before it.
fn tuned(engine: &mut Arc<Engine>, pace: f64) -> Tuning {
    let time = Cell::new((0.0, 1.0));
    let clock = || {
        let (now, step) = time.get();
        time.set((now + step, step * pace));
        now
    };
    let own = Arc::get_mut(engine).expect("no session has it");
    pollster::block_on(own.tune(clock)).expect("is measured")
}

fn answer(engine: &Arc<Engine>) -> Vec<u32> {
    pollster::block_on(async { all(&mut session(engine).await, request(10)).await.0 })
}

#[test]
fn tuning_takes_what_is_faster_and_changes_no_answer() {
    let Some((mut engine, _)) = on_card(settings(CacheType::F32, 1)) else {
        return;
    };
    let before = answer(&engine);
    // What is tried last is the fastest.
    let tuning = tuned(&mut engine, 1.0 / 1.01);
    assert!(!tuning.shapes.is_empty());
    let reduce = Reduce::Memory;
    let (lanes, rows) = (64, 4);
    let last = Tuned {
        lanes,
        rows,
        reduce,
    };
    assert!(tuning.shapes.iter().all(|(_, tuned)| *tuned == last));
    // As it was asked for.
    assert_eq!(tuning.numbers, None);
    assert_eq!(answer(&engine), before);
}

#[test]
fn what_is_no_faster_is_not_taken() {
    let settings = Settings {
        numbers: None,
        ..settings(CacheType::F32, 1)
    };
    let Some((mut engine, _)) = on_card(settings) else {
        return;
    };
    assert_eq!(tuned(&mut engine, 1.0), Tuning::default());
}

#[test]
fn whole_numbers_are_taken_where_nobody_said_otherwise_and_they_are_much_faster() {
    let asked = Settings {
        numbers: None,
        ..settings(CacheType::F32, 1)
    };
    let Some((mut engine, file)) = on_card(asked) else {
        return;
    };
    if !engine.gpu().abilities().has_packed_dot {
        return;
    }
    assert!(farthest_of(&engine, &file) < 1e-4);
    // A few steps of the clock lie between two measurements.
    assert_eq!(tuned(&mut engine, 1.0 / 1.001).numbers, None);
    let tuning = tuned(&mut engine, 1.0 / 1.03);
    assert_eq!(tuning.numbers, Some(Numbers::PackedDot));
    let far = farthest_of(&engine, &file);
    assert!((1e-4..0.1).contains(&far), "{far}");
    // Tuning again begins from what nobody has tuned.
    assert_eq!(tuned(&mut engine, 1.0 / 1.001).numbers, None);
    assert!(farthest_of(&engine, &file) < 1e-4);
}

#[test]
fn tiles_of_halves_are_as_near_as_halves_can_be() {
    let asked = Settings {
        batch_tokens: Some(32),
        ..settings(CacheType::F32, 8)
    };
    let Some((mut engine, file)) = on_card(asked) else {
        return;
    };
    if !engine.gpu().abilities().has_half {
        return;
    }
    assert!(farthest_of(&engine, &file) < 1e-4);
    assert_eq!(tuned(&mut engine, 1.0 / 1.02).tile, Tile::Halves);
    let far = farthest_of(&engine, &file);
    assert!((1e-5..3e-3).contains(&far), "{far}");
}

#[test]
fn findings_are_of_a_model_on_an_adapter() {
    let key = |batch| {
        let settings = Settings {
            batch_tokens: Some(batch),
            ..settings(CacheType::F32, 1)
        };
        Some(on_card(settings)?.0.tuning_key())
    };
    let (Some(key), Some(other)) = (key(8), key(16)) else {
        return;
    };
    assert!(key.contains("llama"), "{key}");
    // How it is loaded changes nothing of what is fast.
    assert_eq!(key, other);
}

#[test]
fn what_was_found_is_kept_for_its_adapter() {
    let shape = |reduce| {
        let kinds = vec![12, 14];
        let (inputs, rows) = (576, 960);
        let shape = Shape {
            kinds,
            inputs,
            rows,
        };
        let (lanes, rows) = (16, 4);
        let tuned = Tuned {
            lanes,
            rows,
            reduce,
        };
        (shape, tuned)
    };
    let tuning = Tuning {
        shapes: [Reduce::Memory, Reduce::Subgroups].map(shape).to_vec(),
        tile: Tile::Halves,
        numbers: Some(Numbers::PackedDot),
    };
    let here = "one\nof two lines";
    let text = tuning.to_text(here);
    assert_eq!(Tuning::from_text(&text, here), Some(tuning));
    assert_eq!(Tuning::from_text(&text, "another"), None);
    assert_eq!(Tuning::from_text("", here), None);
    let text = Tuning::default().to_text(here);
    let garbage = text + "1,2 3 4 5 6 memory\n1 2 3 4 5\ntile gold\n\u{0} 1\n";
    assert_eq!(Tuning::from_text(&garbage, here), Some(Tuning::default()));
}
