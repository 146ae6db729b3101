//! Logits of every family and type are the reference's.

use super::*;
use crate::gpu::Wish;
use crate::gpu::tests::open;
use crate::kernels::Numbers;

const TOKENS: [u32; 21] = [
    1, 80, 111, 37, 9, 80, 111, 37, 64, 5, 5, 5, 100, 23, 42, 77, 81, 13, 99, 60, 61,
];

/// Mistral's files say `llama`, and are.
const FAMILIES: [Family; 4] = [Family::Llama, Family::Qwen2, Family::Qwen3, Family::Gemma3];

/// How far apart two rows are, by the spread of the first.
fn distance(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    let squares = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|it| it * it).sum::<f32>();
    let between = squares(&mut one.iter().zip(other).map(|(a, b)| a - b));
    (between / squares(&mut one.iter().copied())).sqrt()
}

/// The largest distance of the device's rows from the reference's.
fn farthest(gpu: &Arc<Gpu>, file: &[u8], settings: &Settings) -> f32 {
    let engine = load(gpu, file, settings.clone()).expect("can be run");
    farthest_of(&engine, file)
}

/// The same of a model that is loaded.
pub(super) fn farthest_of(engine: &Arc<Engine>, file: &[u8]) -> f32 {
    let model = reference::tests::load(file);
    let mut session = model.session(engine.demand().cache);
    let expected = session.read(&TOKENS).expect("within the context");
    let width = model.config().vocabulary as usize;
    let mut distances = Vec::new();
    let mut rows = expected.chunks_exact(width);
    pollster::block_on(async {
        let mut session = engine.session().await.expect("fits");
        let visit = |row: &[f32]| {
            let expected = rows.next().expect("a row for each token");
            distances.push(distance(expected, row));
        };
        session.logits(&TOKENS, visit).await.expect("are made");
    });
    assert_eq!(distances.len(), TOKENS.len());
    distances.into_iter().fold(0.0, f32::max)
}

fn check(wish: Wish, families: &[Family], kinds: &[QuantType]) {
    let Some(gpu) = open(wish) else { return };
    let gpu = Arc::new(gpu);
    for family in families {
        for kind in kinds {
            let file = bytes(*family, *kind);
            for rows in [1, 8] {
                let far = farthest(&gpu, &file, &settings(CacheType::F32, rows));
                assert!(far < 1e-4, "{family:?} {kind:?} {rows} at once: {far}");
            }
            let far = farthest(&gpu, &file, &settings(CacheType::F16, 8));
            assert!(far < 2e-3, "{family:?} {kind:?}, half: {far}");
        }
    }
}

#[test]
fn logits_of_every_family_and_type_are_the_references() {
    check(Wish::default(), &FAMILIES, &QuantType::ALL);
}

#[test]
fn the_kernels_of_a_card_agree_too() {
    let wish = Wish {
        is_card: true,
        ..Wish::default()
    };
    check(wish, &FAMILIES, &[QuantType::Q4_0]);
}

#[test]
fn products_of_whole_numbers_are_as_near_as_eight_bits_can_be() {
    for is_card in [false, true] {
        let wish = Wish {
            is_card,
            ..Wish::default()
        };
        let Some(gpu) = open(wish).map(Arc::new) else {
            return;
        };
        for kind in [QuantType::Q4_1, QuantType::Q6K, QuantType::BF16] {
            let settings = Settings {
                numbers: Some(Numbers::PackedDot),
                ..settings(CacheType::F32, 8)
            };
            let far = farthest(&gpu, &bytes(Family::Gemma3, kind), &settings);
            assert!(far > 1e-4, "{kind:?}: {far} is too near for eight bits");
            assert!(far < 0.1, "{kind:?}: {far}");
        }
    }
}

#[test]
fn nothing_beyond_the_default_limits_is_needed() {
    let wish = Wish {
        is_plain: true,
        is_card: true,
        ..Wish::default()
    };
    check(wish, &[Family::Gemma3], &[QuantType::Q4K]);
}
