//! What is kept of answers until clients have them, and the window that bounds it.

use protocol::{DeltaKind, NodeToRelay, RelayToNode};

use super::stage::*;
use crate::{Advance, Input, Output};

#[test]
fn bytes_are_kept_until_they_are_acknowledged_and_the_answer_until_its_end_is() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    let piece = "x".repeat(4_096);
    for _ in 0..3 {
        stage.step(vec![advance(key, &[1], &piece)]);
    }
    assert_eq!(stage.session.unacknowledged_bytes(), 3 * 4_096);
    let left = |stage: &mut Stage, message: &RelayToNode| {
        stage.hears(message);
        stage.session.unacknowledged_bytes()
    };
    assert_eq!(left(&mut stage, &acknowledge(1, 4_096)), 2 * 4_096);
    // What is not wholly there is kept.
    assert_eq!(left(&mut stage, &acknowledge(1, 8_191)), 2 * 4_096);
    stage.finish(key);
    assert_eq!(left(&mut stage, &acknowledge(1, 12_288)), 0);
    assert_eq!(stage.session.jobs.len(), 1);
    // Only one that names the very end is of the end.
    stage.hears(&acknowledge_whole(1, 12_287));
    assert_eq!(stage.session.jobs.len(), 1);
    stage.hears(&acknowledge_whole(1, 12_288));
    assert_eq!(stage.session.jobs.len(), 0);
    assert_eq!(stage.session.aliases.len(), 0);
}

#[test]
fn an_unacknowledged_end_is_forgotten_after_a_while() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    stage.step(vec![advance(key, &[1], "abc")]);
    stage.finish(key);
    for _ in 0..6 {
        assert_eq!(stage.session.unacknowledged_bytes(), 3);
        stage.wait(10_000);
        stage.hears(&RelayToNode::Pong);
    }
    assert_eq!(stage.session.jobs.len(), 0);
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_counts_for_nothing() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    stage.step(vec![advance(key, &[1], "abc")]);
    stage.hears(&acknowledge(1, 4));
    stage.hears(&acknowledge_whole(1, u32::MAX));
    assert_eq!(stage.session.unacknowledged_bytes(), 3);
    // There is no end yet that anybody could have.
    stage.hears(&acknowledge_whole(1, 3));
    assert_eq!(stage.session.job_count(), 1);
    // Made, but still behind a busy socket.
    stage.input(Input::Busy);
    stage.step(vec![advance(key, &[1], "def")]);
    stage.hears(&acknowledge(1, 6));
    assert_eq!(stage.session.unacknowledged_bytes(), 3);
    assert_eq!(stage.session.ignored(), 3);
}

#[test]
fn tokens_without_text_are_kept_until_something_behind_them_is_acknowledged() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    stage.step(vec![advance(key, &[1], "abc")]);
    stage.step(vec![advance(key, &[2, 3], "")]);
    stage.hears(&acknowledge(1, 3));
    stage.fall_and_return();
    stage.hears(&adopt(1, 2, "abc", 1));
    assert_eq!(
        stage.entries().last(),
        Some(&vec![(2, 3, vec![2, 3], String::new())])
    );
    stage.fall_and_return();
    stage.hears(&adopt(1, 3, "abc", 3));
    assert!(stage.frames.is_empty());
}

#[test]
fn the_engine_pauses_at_the_window_and_goes_on_once_less_is_unacknowledged() {
    let mut stage = Stage::up(1);
    let key = stage.start_with(1, |_, window_bytes| *window_bytes = 6);
    stage.accept(key);
    stage.step(vec![advance(key, &[1], "abcde")]);
    assert_eq!(stage.wanted(), []);
    stage.step(vec![advance(key, &[2], "f")]);
    assert_eq!(stage.wanted(), [Output::Pause { key }]);
    // A step that was under way.
    stage.step(vec![advance(key, &[3], "ghi")]);
    stage.hears(&acknowledge(1, 3));
    assert_eq!(stage.wanted(), []);
    stage.hears(&acknowledge(1, 4));
    assert_eq!(stage.wanted(), [Output::Unpause { key }]);
    assert_eq!(stage.entries().len(), 3);
}

#[test]
fn a_paused_job_can_be_cancelled() {
    let mut stage = Stage::up(1);
    let key = stage.start_with(1, |_, window_bytes| *window_bytes = 0);
    stage.accept(key);
    stage.step(vec![advance(key, &[1], "a")]);
    stage.hears(&RelayToNode::Cancel { alias: 1 });
    assert_eq!(
        stage.wanted(),
        [Output::Pause { key }, Output::Stop { key }]
    );
}

#[test]
fn a_node_without_a_connection_goes_on_for_a_window_and_pauses() {
    let mut stage = Stage::up(1);
    let key = stage.start_with(1, |_, window_bytes| *window_bytes = 6);
    stage.accept(key);
    stage.input(Input::Closed { code: None });
    stage.step(vec![advance(key, &[1], "abc")]);
    assert_eq!(stage.wanted(), []);
    stage.step(vec![advance(key, &[2], "def")]);
    assert_eq!(stage.wanted(), [Output::Pause { key }]);
    stage.come_back();
    stage.said();
    // The new window is larger.
    stage.hears(&adopt(1, 2, "abc", 1));
    assert_eq!(stage.wanted(), [Output::Unpause { key }]);
    assert_eq!(stage.entries(), [[(2, 3, vec![2], "def".to_owned())]]);
}

#[test]
fn what_a_relay_knows_when_it_adopts_is_acknowledged() {
    let mut stage = Stage::up(1);
    let key = stage.start_with(1, |_, window_bytes| *window_bytes = 6);
    stage.accept(key);
    stage.step(vec![advance(key, &[1], "abc")]);
    stage.step(vec![advance(key, &[2], "def")]);
    assert_eq!(stage.wanted(), [Output::Pause { key }]);
    stage.fall_and_return();
    let mut message = adopt(1, 2, "abc", 1);
    if let RelayToNode::Adopt { window_bytes, .. } = &mut message {
        *window_bytes = 4;
    }
    stage.hears(&message);
    assert_eq!(stage.wanted(), [Output::Unpause { key }]);
    stage.step(vec![advance(key, &[3], "g")]);
    assert_eq!(stage.wanted(), [Output::Pause { key }]);
}

#[test]
fn an_engine_that_does_not_pause_fails_its_job() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    stage.said();
    let piece = "x".repeat(64 << 10);
    let mut most = 0;
    while stage.said.is_empty() {
        stage.step(vec![advance(key, &[1], &piece)]);
        most = most.max(stage.session.unacknowledged_bytes());
    }
    assert!(matches!(
        stage.said()[..],
        [NodeToRelay::Failed { alias: 1, .. }]
    ));
    assert!(most <= (64 << 10) + (1 << 20), "{most}");
    assert_eq!(stage.session.unacknowledged_bytes(), 0);
    assert_eq!(stage.wanted().last(), Some(&Output::Stop { key }));
}

#[test]
fn tokens_without_text_are_bounded_too() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    stage.said();
    let mut count = 0;
    while stage.said.is_empty() {
        stage.step(vec![advance(key, &[1; 1_000], "")]);
        count += 1_000;
        assert!(count < 70_000);
    }
    assert!(matches!(
        stage.said()[..],
        [NodeToRelay::Failed { alias: 1, .. }]
    ));
}

#[test]
fn windows_of_all_slots_together_are_bounded_whatever_the_relay_asks_for() {
    for slots in [1, 4, 256] {
        let stage = Stage::up(slots);
        let window = stage.session.window(u32::MAX);
        assert!(window >= WINDOW_BYTES);
        assert!(window * slots <= 16 << 20);
        assert_eq!(stage.session.window(WINDOW_BYTES), WINDOW_BYTES);
    }
}

#[test]
fn whole_answers_that_nobody_acknowledges_are_bounded_and_the_oldest_go_first() {
    let mut stage = Stage::up(1);
    let mut end = |alias, bytes: usize| {
        let key = stage.start_with(alias, |_, window_bytes| *window_bytes = u32::MAX);
        stage.accept(key);
        let bytes = vec![b'x'; bytes];
        stage.step(vec![Advance {
            key,
            kind: DeltaKind::Text,
            tokens: Vec::new(),
            bytes,
        }]);
        stage.finish(key);
        stage.wait(1);
        stage.session.aliases.keys().copied().collect::<Vec<_>>()
    };
    end(1, 12 << 20);
    assert_eq!(end(2, 12 << 20), [1, 2]);
    assert_eq!(end(3, 12 << 20), [2, 3]);
    for alias in 4..304 {
        end(alias, 1);
    }
    assert!(stage.session.jobs.len() <= 257);
}
