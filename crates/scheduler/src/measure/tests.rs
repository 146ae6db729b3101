//! Behaviour of `measure` by itself, by sentence.

use super::*;

fn metered(frames: &[(Millis, u32)]) -> Meter {
    let mut meter = Meter::begin(0, 0);
    for (at, tokens) in frames {
        meter.add(*at, *tokens, 4 * tokens);
    }
    meter
}

#[test]
fn rate_counts_tokens_after_the_first_frame() {
    // 100 tokens held back in the first frame say nothing about speed; 20 tokens in the 2 s after it do.
    let meter = metered(&[(5_000, 100), (6_000, 10), (7_000, 10)]);
    assert_eq!(meter.rate(), Some(10.0));
}

#[test]
fn one_moment_has_no_rate() {
    assert_eq!(metered(&[]).rate(), None);
    assert_eq!(metered(&[(1, 50)]).rate(), None);
    assert_eq!(metered(&[(1, 50), (1, 50)]).rate(), None);
}

#[test]
fn frames_without_tokens_move_nothing() {
    let meter = metered(&[(1_000, 1), (2_000, 4), (9_000, 0)]);
    assert_eq!(meter.rate(), Some(4.0));
}

#[test]
fn speed_follows_new_samples_and_forgets_old_ones() {
    let mut speed = Speedometer::default();
    speed.learn(&metered(&[(0, 1), (1_000, 100)]), None, 1e6);
    assert_eq!(speed.decode(), Some(100.0));
    speed.learn(&metered(&[(0, 1), (1_000, 10)]), None, 1e6);
    assert_eq!(speed.decode(), Some(73.0));
}

#[test]
fn short_answers_judge_nobody() {
    let mut speed = Speedometer::default();
    speed.learn(&metered(&[(0, 1), (1, 3)]), None, 1e6);
    assert_eq!(speed.decode(), None);
}
