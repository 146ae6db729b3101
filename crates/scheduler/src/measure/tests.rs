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

fn learned(meter: &Meter, prompt_tokens: u32) -> Speedometer {
    let mut speed = Speedometer::default();
    speed.learn(meter, Some(prompt_tokens), 1_000.0);
    speed
}

fn about(measured: Option<f64>, expected: f64) -> bool {
    measured.is_some_and(|measured| (measured - expected).abs() < expected / 1e5)
}

#[test]
fn reading_and_writing_are_measured_apart() {
    // 2,000 tokens read in 4 s; then 20 tokens in 2 s.
    let mut meter = Meter::begin(1_000, 0);
    meter.add(5_000, 1, 4);
    meter.add(7_000, 20, 80);
    let speed = learned(&meter, 2_000);
    assert!(about(speed.prefill(), 500.0) && about(speed.decode(), 10.0));
}

#[test]
fn who_goes_on_with_an_answer_reads_it_first() {
    let mut meter = Meter::begin(0, 1_000);
    meter.add(1_000, 1, 4);
    assert!(about(learned(&meter, 500).prefill(), 1_500.0));
}

#[test]
fn pauses_are_in_neither() {
    let mut meter = Meter::begin(0, 0);
    meter.pause(0);
    meter.resume(10_000);
    meter.add(11_000, 1, 4);
    meter.add(12_000, 10, 40);
    meter.pause(12_000);
    meter.pause(15_000);
    // What was on its way.
    meter.add(20_000, 5, 20);
    meter.resume(60_000);
    meter.resume(61_000);
    meter.add(61_000, 5, 20);
    let speed = learned(&meter, 100);
    assert!(about(speed.prefill(), 100.0), "{speed:?}");
    assert!(about(speed.decode(), 10.0), "{speed:?}");
}

#[test]
fn ids_without_text_make_nobody_faster() {
    let mut meter = Meter::begin(0, 0);
    meter.add(0, 1, 4);
    for at in 1..=10 {
        meter.add(at * 100, 1_000, 1);
    }
    assert!(learned(&meter, 0).decode().unwrap() < 30.0);
}

#[test]
fn what_came_in_one_moment_or_nearly_so_says_nothing() {
    assert_eq!(learned(&metered(&[(1, 1), (1, 500)]), 0).decode(), None);
    assert_eq!(learned(&metered(&[(1, 1), (60, 500)]), 0).decode(), None);
}

#[test]
fn a_rate_that_nobody_has_is_cut() {
    let speed = learned(&metered(&[(1, 1), (200, 50_000)]), 100_000_000);
    assert_eq!(speed.decode(), Some(1_000.0));
    assert_eq!(speed.prefill(), Some(100_000.0));
}
