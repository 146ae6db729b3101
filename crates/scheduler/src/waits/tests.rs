//! Behaviour of `waits` by itself, by sentence.

use super::*;

fn pace(held_ms: &[Millis], running: u32) -> Pace {
    let mut pace = Pace {
        running,
        ..Pace::default()
    };
    for ms in held_ms {
        pace.learn_slot(*ms);
    }
    pace
}

#[test]
fn nothing_is_promised_where_nothing_is_known_or_nobody_can() {
    assert_eq!(pace(&[], 1).wait(0, 1, 1), None);
    assert_eq!(pace(&[1_000], 1).wait(0, 1, 0), None);
}

#[test]
fn the_range_holds_the_mean_and_grows_more_slowly_than_the_line() {
    let pace = pace(&[8_000], 4);
    let near = pace.wait(0, 1, 4).unwrap();
    // Four slots, eight seconds each: one every two seconds.
    assert!(near.ms_min <= 2_000 && near.ms_max >= 2_000, "{near:?}");
    let far = pace.wait(0, 100, 4).unwrap();
    assert!(far.ms_min >= 150_000 && far.ms_max <= 250_000, "{far:?}");
    assert!(far.ms_min <= 200_000 && far.ms_max >= 200_000, "{far:?}");
}

#[test]
fn slots_that_other_models_hold_count_for_less() {
    let alone = pace(&[1_000], 3).wait(0, 10, 3).unwrap();
    let shared = pace(&[1_000], 1).wait(0, 10, 3).unwrap();
    assert!(shared.ms_max > alone.ms_max * 3 / 2);
}

#[test]
fn a_line_that_stands_still_promises_less_and_less() {
    let mut pace = pace(&[1_000], 1);
    pace.moved_at = 5_000;
    let fresh = pace.wait(5_000, 1, 1).unwrap();
    let stuck = pace.wait(65_000, 1, 1).unwrap();
    assert!(stuck.ms_max > fresh.ms_max * 10);
}

#[test]
fn small_changes_are_no_news() {
    let range = |ms_min, ms_max| Some(WaitRange { ms_min, ms_max });
    assert!(!is_news(None, None));
    assert!(is_news(None, range(0, 1)));
    assert!(is_news(range(0, 1), None));
    assert!(!is_news(range(0, 500), range(0, 1_400)));
    assert!(!is_news(range(10_000, 50_000), range(11_000, 55_000)));
    assert!(is_news(range(10_000, 50_000), range(20_000, 50_000)));
}
