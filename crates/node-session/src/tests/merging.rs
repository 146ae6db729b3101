//! How deltas gather: behind a busy socket, or because the relay asks for it.

use protocol::{DeltaKind, NodeToRelay, RelayToNode};

use super::stage::*;
use crate::{Advance, EngineEvent, Input, JobKey, Output};

fn running(stage: &mut Stage, alias: u32) -> JobKey {
    let key = stage.start(alias);
    stage.accept(key);
    stage.said();
    stage.order.clear();
    key
}

#[test]
fn what_queues_behind_a_busy_socket_is_one_frame_with_one_entry_for_each_job() {
    let mut stage = Stage::up(2);
    let (one, two) = (running(&mut stage, 1), running(&mut stage, 2));
    stage.input(Input::Busy);
    stage.step(vec![advance(one, &[1], "a"), advance(two, &[7], "x")]);
    stage.step(vec![advance(one, &[2, 3], "bc")]);
    stage.step(vec![advance(one, &[4], ""), advance(two, &[8], "y")]);
    assert!(stage.frames.is_empty());
    stage.input(Input::Writable);
    assert_eq!(
        stage.entries(),
        [[
            (1, 0, vec![1, 2, 3, 4], "abc".to_owned()),
            (2, 0, vec![7, 8], "xy".to_owned())
        ]]
    );
    // And then one frame per step again.
    stage.step(vec![advance(one, &[5], "d")]);
    stage.step(vec![advance(one, &[6], "e")]);
    assert_eq!(stage.frames.len(), 2);
}

#[test]
fn kinds_are_not_joined_and_neither_are_log_probabilities() {
    let mut stage = Stage::up(1);
    let key = running(&mut stage, 1);
    let said = |kind, text: &str| Advance {
        key,
        kind,
        tokens: vec![],
        bytes: text.into(),
    };
    stage.input(Input::Busy);
    stage.step(vec![
        said(DeltaKind::Reasoning, "a"),
        said(DeltaKind::Reasoning, "b"),
        said(DeltaKind::Text, "c"),
        said(DeltaKind::Logprobs, "[1]"),
        said(DeltaKind::Logprobs, "[2]"),
    ]);
    stage.input(Input::Writable);
    let texts: Vec<String> = stage.entries()[0]
        .iter()
        .map(|(_, _, _, text)| text.clone())
        .collect();
    assert_eq!(texts, ["ab", "c", "[1]", "[2]"]);
}

#[test]
fn gathered_deltas_over_a_frames_limit_become_several_frames_in_order() {
    let mut stage = Stage::up(1);
    let key = stage.start_with(1, |_, window_bytes| *window_bytes = u32::MAX);
    stage.accept(key);
    stage.input(Input::Busy);
    let text: String = ('a'..='z').cycle().take(3 << 20).collect();
    for piece in text.as_bytes().chunks(100_000) {
        stage.step(vec![advance(
            key,
            &[1],
            std::str::from_utf8(piece).unwrap(),
        )]);
    }
    stage.input(Input::Writable);
    assert!(stage.frames.len() >= 3);
    let mut joined = String::new();
    for (_, offset, _, text) in stage.entries().into_iter().flatten() {
        assert_eq!(usize::try_from(offset).unwrap(), joined.len());
        joined += &text;
    }
    assert!(joined == text);
}

#[test]
fn gathered_tokens_beyond_what_an_entry_holds_become_several_entries() {
    let mut stage = Stage::up(1);
    let key = running(&mut stage, 1);
    stage.input(Input::Busy);
    let all: Vec<u32> = (0..20_000).collect();
    for tokens in all.chunks(1_000) {
        stage.step(vec![advance(key, tokens, "a")]);
    }
    stage.input(Input::Writable);
    let entries = stage.entries().concat();
    let tokens: Vec<u32> = entries
        .iter()
        .flat_map(|(_, _, ids, _)| ids.clone())
        .collect();
    assert_eq!(tokens, all);
    assert_eq!(entries.len(), 2);
}

#[test]
fn a_message_about_a_job_never_overtakes_its_deltas() {
    type Ending = fn(&mut Stage, JobKey);
    let endings: [Ending; 3] = [Stage::finish, Stage::stopped, |stage, key| {
        let failure = protocol::Failure::new(protocol::ErrorCode::EngineFailed, "broke");
        stage.engine(EngineEvent::Failed { key, failure });
    }];
    for end in endings {
        for is_busy in [false, true] {
            let mut stage = Stage::up(1);
            let key = running(&mut stage, 1);
            if is_busy {
                stage.input(Input::Busy);
            } else {
                stage.hears(&RelayToNode::Merge { ms: 50 });
            }
            stage.step(vec![advance(key, &[1], "a")]);
            end(&mut stage, key);
            stage.input(Input::Writable);
            assert_eq!(stage.order, ["frame", "message"]);
        }
    }
}

#[test]
fn a_message_about_another_job_does_not_break_up_what_gathers() {
    let mut stage = Stage::up(2);
    let one = running(&mut stage, 1);
    stage.input(Input::Busy);
    stage.step(vec![advance(one, &[1], "a")]);
    let two = stage.start(2);
    stage.accept(two);
    stage.step(vec![advance(one, &[2], "b"), advance(two, &[9], "z")]);
    stage.input(Input::Writable);
    assert!(matches!(
        stage.said()[..],
        [NodeToRelay::Accepted { alias: 2, .. }]
    ));
    assert_eq!(
        stage.entries(),
        [[
            (1, 0, vec![1, 2], "ab".to_owned()),
            (2, 0, vec![9], "z".to_owned())
        ]]
    );
}

#[test]
fn deltas_gather_for_as_long_as_the_relay_asks_and_no_longer_than_it_may() {
    for (asked, waits) in [(20, 20), (50, 50), (51, 50), (u64::MAX, 50)] {
        let mut stage = Stage::up(1);
        let key = running(&mut stage, 1);
        stage.hears(&RelayToNode::Merge { ms: asked });
        stage.step(vec![advance(key, &[1], "a")]);
        stage.wait(waits - 1);
        stage.step(vec![advance(key, &[2], "b")]);
        assert!(stage.frames.is_empty());
        stage.wait(1);
        assert_eq!(stage.entries(), [[(1, 0, vec![1, 2], "ab".to_owned())]]);
        // The next one waits anew.
        stage.step(vec![advance(key, &[3], "c")]);
        stage.wait(waits - 1);
        assert!(stage.frames.is_empty());
        // Without load nothing waits, what has gathered included.
        stage.hears(&RelayToNode::Merge { ms: 0 });
        assert_eq!(stage.frames.len(), 1);
        stage.step(vec![advance(key, &[4], "d")]);
        assert_eq!(stage.frames.len(), 2);
    }
}

#[test]
fn a_new_relay_is_not_loaded_before_it_says_so() {
    let mut stage = Stage::up(1);
    stage.hears(&RelayToNode::Merge { ms: 50 });
    stage.input(Input::Busy);
    stage.fall_and_return();
    let key = running(&mut stage, 1);
    stage.step(vec![advance(key, &[1], "a")]);
    assert_eq!(stage.frames.len(), 1);
}

#[test]
fn a_new_socket_is_not_busy_because_an_old_one_was() {
    let mut stage = Stage::up(1);
    stage.input(Input::Closed { code: None });
    stage.input(Input::Busy);
    stage.come_back();
    assert!(matches!(stage.said()[..], [NodeToRelay::Hello { .. }]));
}

#[test]
fn progress_behind_a_busy_socket_is_said_once() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.input(Input::Busy);
    for prefilled_tokens in 1..1_000 {
        stage.engine(EngineEvent::Progress {
            key,
            prefilled_tokens,
        });
    }
    stage.input(Input::Writable);
    assert_eq!(
        stage.said(),
        [NodeToRelay::Progress {
            alias: 1,
            prefilled_tokens: 999
        }]
    );
}

#[test]
fn a_relay_that_makes_a_node_talk_and_does_not_read_is_hung_up_on() {
    let mut stage = Stage::up(1);
    stage.input(Input::Busy);
    for alias in 0..5_000 {
        let mut message = assign(1);
        if let RelayToNode::Assign {
            model, alias: name, ..
        } = &mut message
        {
            *model = "nonesuch".into();
            *name = alias;
        }
        stage.hears(&message);
    }
    assert!(matches!(
        stage.wanted()[..],
        [Output::CloseSocket { code: 4004 }]
    ));
}

#[test]
fn what_waits_is_sent_before_a_drained_node_hangs_up() {
    let mut stage = Stage::up(1);
    let key = running(&mut stage, 1);
    stage.input(Input::DrainRequested);
    stage.input(Input::Busy);
    stage.step(vec![advance(key, &[1], "a")]);
    stage.finish(key);
    stage.said();
    stage.wait(5_000);
    assert_eq!(stage.entries().len(), 1);
    assert!(matches!(stage.said()[..], [NodeToRelay::Completed { .. }]));
    assert_eq!(stage.wanted().len(), 2);
}
