//! Which model is chosen, for machines that are not here.

use catalog::Catalog;

use crate::engine::llama::CacheType;
use crate::engine::reordered::Orders;

use super::memory::Memory;
use super::{CATALOG, Candidate, Room, choice};

const GB: u64 = 1_000_000_000;

fn machine(free: u64) -> Memory {
    Memory {
        device: "a card".to_owned(),
        free,
        total: free,
        parts: 1,
        is_processor: false,
    }
}

fn room(slots: u32, context_tokens: Option<u32>) -> Room {
    Room {
        slots,
        context_tokens,
        cached_conversations: 4,
        prompt_batch: None,
        cache_type: CacheType::F16,
        has_vectors: false,
        has_template: false,
        orders: Orders::None,
    }
}

fn candidates(room: Room) -> Vec<Candidate> {
    choice::candidates(&Catalog::parse(CATALOG).expect("valid"), room)
}

#[test]
fn auto_takes_the_largest_that_fits_with_its_context_and_slots() {
    let two = candidates(room(2, None));
    let best = |free: u64| choice::best(&two, &machine(free)).map(|best| best.id.clone());
    assert_eq!(best(80 * GB).as_deref(), Some("atlas-30b"));
    assert_eq!(best(24 * GB).as_deref(), Some("atlas-30b"));
    assert_eq!(best(8 * GB).as_deref(), Some("smollm2-135m"));
    assert_eq!(best(GB / 2), None);
    // With many slots the same card holds less.
    let many = candidates(room(16, Some(32_768)));
    let best = choice::best(&many, &machine(24 * GB)).expect("one fits");
    assert_eq!(best.id, "smollm2-135m");
}

#[test]
fn models_for_browsers_are_no_candidates() {
    let ids: Vec<String> = candidates(room(1, None))
        .into_iter()
        .map(|candidate| candidate.id)
        .collect();
    assert_eq!(ids, ["smollm2-135m", "atlas-30b", "atlas-vision-27b"]);
}

#[test]
fn what_barely_fits_does_not_and_each_card_has_its_own_scratch() {
    let one = candidates(room(1, None)).remove(0);
    let total = one.need.total();
    assert!(!machine(total).fits(&one.need));
    assert!(machine(total + total / 10).fits(&one.need));
    let cards = Memory {
        parts: 2,
        ..machine(total + total / 10)
    };
    assert!(!cards.fits(&one.need));
}

#[test]
fn the_table_says_the_whole_sum() {
    let lines = choice::table(&candidates(room(2, None)), &machine(24 * GB));
    assert_eq!(lines.len(), 6);
    let later = &lines[5];
    assert!(
        later.starts_with("atlas-vision-27b: beside the sum up to 1.3 GB"),
        "{later}"
    );
    assert!(lines[0].contains("24.0 GB free"), "{}", lines[0]);
    let words: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!(
        words,
        [
            "smollm2-135m",
            "2",
            "x",
            "8192",
            "98.3",
            "MB",
            "0",
            "B",
            "377",
            "MB",
            "125",
            "MB",
            "0",
            "B",
            "600",
            "MB",
            "yes"
        ]
    );
}

#[test]
fn on_a_processor_what_may_come_later_must_fit_too() {
    let on_cards = candidates(room(1, None)).remove(0);
    let processor = Room {
        orders: Orders::All,
        ..room(1, None)
    };
    let one = candidates(processor).remove(0);
    assert_eq!(one.need.total(), on_cards.need.total());
    // Its file is not here, so perhaps all of it is kept a second time.
    assert_eq!(one.need.later_max(), one.need.weights);
    assert_eq!(on_cards.need.later_max(), 0);
    let enough = one.need.total() + one.need.total() / 10;
    let main = |free: u64| Memory {
        parts: 0,
        is_processor: true,
        ..machine(free)
    };
    assert!(!main(enough + one.need.weights - 1).fits(&one.need));
    assert!(main(enough + one.need.weights).fits(&one.need));
    assert!(machine(enough).fits(&one.need));
    let lines = choice::table(std::slice::from_ref(&one), &main(GB));
    assert!(lines[2].contains("98.3 MB"), "{lines:?}");
}
