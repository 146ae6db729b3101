//! Jobs: slots, steps, ends, cancel, buffers, lost connections.

use protocol::limits::{ANSWER_BYTES_MAX, ENTRY_BYTES_MAX};
use protocol::{DeltaKind, ErrorCode, Failure, NodeToRelay, RelayToNode, Usage};

use super::stage::*;
use crate::{Advance, EngineEvent, Input, JobKey, Output};

#[test]
fn a_job_travels_from_assignment_to_its_end() {
    let mut stage = Stage::up(1);
    stage.hears(&assign(41));
    let wanted = stage.wanted();
    let [
        Output::Start {
            key,
            model,
            request: wish,
            ..
        },
    ] = &wanted[..]
    else {
        panic!("{wanted:?}")
    };
    assert_eq!((model.as_str(), &**wish), (MODEL, &request()));
    let key = *key;
    stage.engine(EngineEvent::Progress {
        key,
        prefilled_tokens: 3,
    });
    stage.accept(key);
    stage.step(vec![advance(key, &[5], "red")]);
    stage.step(vec![advance(key, &[6, 7], ", ü")]);
    stage.step(vec![advance(key, &[2], "")]);
    stage.finish(key);
    assert_eq!(
        stage.entries(),
        [
            [(41, 0, vec![5], "red".to_owned())],
            [(41, 3, vec![6, 7], ", ü".to_owned())],
            [(41, 7, vec![2], String::new())]
        ]
    );
    let said = stage.said();
    assert!(
        matches!(
            said[..],
            [
                NodeToRelay::Progress {
                    alias: 41,
                    prefilled_tokens: 3
                },
                NodeToRelay::Accepted {
                    alias: 41,
                    prompt_tokens: 7,
                    context_tokens: 4_096
                },
                NodeToRelay::Completed {
                    alias: 41,
                    offset: 7,
                    usage: USAGE,
                    ..
                }
            ]
        ),
        "{said:?}"
    );
    assert_eq!(stage.session.job_count(), 0);
}

#[test]
fn one_decode_step_is_one_frame() {
    let mut stage = Stage::up(3);
    let keys = [1, 2, 3].map(|alias| stage.start(alias));
    for key in keys {
        stage.accept(key);
    }
    stage.step(keys.map(|key| advance(key, &[1], "a")).to_vec());
    assert_eq!(stage.frames.len(), 1);
    assert_eq!(stage.entries()[0].len(), 3);
    stage.step(vec![advance(keys[0], &[], "")]);
    assert!(stage.frames.is_empty());
}

#[test]
fn an_advance_over_the_limits_of_an_entry_is_cut_between_characters() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    // Three bytes each, so that the limit falls inside a character.
    let text = "€".repeat(ENTRY_BYTES_MAX * 5 / 3);
    let tokens = vec![1; 20_000];
    stage.step(vec![advance(key, &tokens, &text)]);
    assert_eq!(stage.frames.len(), 2);
    let entries: Vec<_> = stage.entries().into_iter().flatten().collect();
    let joined: String = entries
        .iter()
        .map(|(_, _, _, text)| text.as_str())
        .collect();
    assert_eq!(joined, text);
    let mut offset = 0;
    for (_, start, _, text) in &entries {
        assert_eq!(*start, offset);
        offset += u32::try_from(text.len()).unwrap();
    }
    let count: usize = entries.iter().map(|(_, _, tokens, _)| tokens.len()).sum();
    assert_eq!(count, 20_000);
}

#[test]
fn more_than_the_slots_are_refused() {
    let mut stage = Stage::up(1);
    stage.start(1);
    stage.hears(&assign(2));
    let said = stage.said();
    assert!(
        matches!(&said[..], [NodeToRelay::Failed { alias: 2, .. }]),
        "{said:?}"
    );
    assert_eq!(stage.wanted(), []);
}

#[test]
fn a_model_that_is_not_offered_is_refused() {
    let mut stage = Stage::up(1);
    let mut other = assign(3);
    if let RelayToNode::Assign { model, .. } = &mut other {
        *model = "nonesuch".into();
    }
    stage.hears(&other);
    let said = stage.said();
    assert!(
        matches!(&said[..], [NodeToRelay::Failed { alias: 3, .. }]),
        "{said:?}"
    );
    assert_eq!(stage.wanted(), []);
}

#[test]
fn the_same_assignment_twice_starts_once() {
    let mut stage = Stage::up(2);
    stage.start(1);
    stage.hears(&assign(1));
    assert_eq!(stage.wanted(), []);
    assert_eq!(stage.said(), []);
}

#[test]
fn cancel_stops_the_engine_and_silences_the_job() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    stage.said();
    stage.hears(&RelayToNode::Cancel { alias: 1 });
    assert_eq!(stage.wanted(), [Output::Stop { key }]);
    stage.step(vec![advance(key, &[1], "late")]);
    assert!(stage.frames.is_empty());
    stage.stopped(key);
    assert_eq!(
        stage.said(),
        [NodeToRelay::Cancelled {
            alias: 1,
            usage: USAGE
        }]
    );
    assert_eq!(stage.session.unacknowledged_bytes(), 0);
    // Its slot is free.
    stage.start(2);
}

#[test]
fn a_job_that_was_done_before_it_heard_cancel_is_cancelled_all_the_same() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    stage.hears(&RelayToNode::Cancel { alias: 1 });
    stage.said();
    stage.finish(key);
    assert!(matches!(
        stage.said()[..],
        [NodeToRelay::Cancelled { alias: 1, .. }]
    ));
    stage.stopped(key);
    stage.hears(&RelayToNode::Cancel { alias: 1 });
    assert_eq!(stage.said(), []);
}

#[test]
fn a_failure_of_the_engine_is_passed_on() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    let failure = Failure::new(ErrorCode::ContextLengthExceeded, "9000 of 4096");
    stage.engine(EngineEvent::Failed {
        key,
        failure: failure.clone(),
    });
    assert_eq!(stage.said(), [NodeToRelay::Failed { alias: 1, failure }]);
    stage.start(2);
}

#[test]
fn a_question_about_a_prompt_goes_to_the_engine_and_back_without_a_slot() {
    let mut stage = Stage::up(1);
    stage.start(1);
    stage.hears(&RelayToNode::CheckPrompt {
        check: 5,
        model: "small".into(),
        request: request(),
    });
    let wanted = stage.wanted();
    assert!(matches!(wanted[..], [Output::Check { check: 5, .. }]));
    let failure = Some(Failure::new(
        ErrorCode::ContextLengthExceeded,
        "9000 of 4096",
    ));
    stage.engine(EngineEvent::Checked {
        check: 5,
        failure: failure.clone(),
    });
    assert_eq!(
        stage.said(),
        [NodeToRelay::PromptChecked { check: 5, failure }]
    );
}

#[test]
fn bytes_are_kept_until_they_are_acknowledged_the_end_included() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    let piece = "x".repeat(4_096);
    for _ in 0..3 {
        stage.step(vec![advance(key, &[1], &piece)]);
    }
    assert_eq!(stage.session.unacknowledged_bytes(), 3 * 4_096);
    let acknowledge = |stage: &mut Stage, offset| {
        stage.hears(&RelayToNode::Acknowledge { alias: 1, offset });
        stage.session.unacknowledged_bytes()
    };
    assert_eq!(acknowledge(&mut stage, 4_096), 2 * 4_096);
    // What is not wholly there is kept.
    assert_eq!(acknowledge(&mut stage, 8_191), 2 * 4_096);
    stage.finish(key);
    assert_eq!(stage.session.unacknowledged_bytes(), 2 * 4_096);
    assert_eq!(acknowledge(&mut stage, 3 * 4_096), 0);
    assert!(stage.session.finished.is_empty());
}

#[test]
fn an_unacknowledged_end_is_forgotten_after_a_while() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    stage.step(vec![advance(key, &[1], "abc")]);
    stage.finish(key);
    assert_eq!(stage.session.unacknowledged_bytes(), 3);
    for _ in 0..6 {
        stage.wait(10_000);
        stage.hears(&RelayToNode::Pong);
    }
    assert_eq!(stage.session.unacknowledged_bytes(), 0);
}

#[test]
fn an_end_without_text_after_everything_was_acknowledged_keeps_nothing() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    stage.step(vec![advance(key, &[1], "abc")]);
    stage.hears(&RelayToNode::Acknowledge {
        alias: 1,
        offset: 3,
    });
    stage.step(vec![advance(key, &[2], "")]);
    stage.finish(key);
    assert!(stage.session.finished.is_empty());
}

#[test]
fn an_answer_over_its_limit_fails_and_stops() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    let piece = "a".repeat(ENTRY_BYTES_MAX);
    for _ in (0..ANSWER_BYTES_MAX).step_by(ENTRY_BYTES_MAX) {
        stage.step(vec![advance(key, &[1], &piece)]);
    }
    stage.said();
    stage.step(vec![advance(key, &[1], "b")]);
    let said = stage.said();
    assert!(
        matches!(&said[..], [NodeToRelay::Failed { alias: 1, failure }] if failure.code == ErrorCode::EngineFailed)
    );
    assert_eq!(stage.wanted(), [Output::Stop { key }]);
    assert_eq!(stage.session.unacknowledged_bytes(), 0);
}

#[test]
fn an_engine_that_answers_before_it_accepts_fails_the_job() {
    for finishes in [false, true] {
        let mut stage = Stage::up(1);
        let key = stage.start(1);
        if finishes {
            stage.finish(key);
        } else {
            stage.step(vec![advance(key, &[1], "a")]);
        }
        assert!(stage.frames.is_empty());
        assert!(matches!(
            stage.said()[..],
            [NodeToRelay::Failed { alias: 1, .. }]
        ));
    }
}

#[test]
fn a_lost_connection_stops_the_engine_and_forgets_the_jobs() {
    let mut stage = Stage::up(2);
    let key = stage.start(1);
    stage.accept(key);
    stage.step(vec![advance(key, &[1], "a")]);
    stage.said();
    stage.frames.clear();
    stage.input(Input::Closed { code: None });
    assert_eq!(stage.wanted(), [Output::Stop { key }]);
    assert_eq!(stage.session.job_count(), 0);
    assert_eq!(stage.session.unacknowledged_bytes(), 0);
    stage.step(vec![advance(key, &[1], "b")]);
    stage.wait(30_000);
    stage.welcome();
    stage.stopped(key);
    assert_eq!(stage.said(), []);
    assert!(stage.frames.is_empty());
}

#[test]
fn a_new_job_waits_for_the_engine_to_stop_the_old_one() {
    let mut stage = Stage::up(1);
    let old = stage.start(1);
    stage.input(Input::Closed { code: None });
    stage.wait(30_000);
    stage.welcome();
    stage.hears(&assign(2));
    assert_eq!(stage.wanted(), []);
    stage.stopped(old);
    let wanted = stage.wanted();
    let [Output::Start { key, .. }] = wanted[..] else {
        panic!("{wanted:?}")
    };
    assert_ne!(key, old);
    stage.accept(key);
    assert!(matches!(
        stage.said()[..],
        [NodeToRelay::Accepted { alias: 2, .. }]
    ));
}

#[test]
fn a_job_that_waits_for_the_engine_can_be_cancelled() {
    let mut stage = Stage::up(1);
    let old = stage.start(1);
    stage.input(Input::Closed { code: None });
    stage.wait(30_000);
    stage.welcome();
    stage.hears(&assign(2));
    stage.hears(&RelayToNode::Cancel { alias: 2 });
    assert_eq!(
        stage.said(),
        [NodeToRelay::Cancelled {
            alias: 2,
            usage: Usage::default()
        }]
    );
    stage.stopped(old);
    assert_eq!(stage.wanted(), []);
}

#[test]
fn a_job_that_waits_for_the_engine_is_forgotten_with_its_connection() {
    let mut stage = Stage::up(1);
    let old = stage.start(1);
    let fall = |stage: &mut Stage| {
        stage.input(Input::Closed { code: None });
        stage.wait(30_000);
        stage.welcome();
    };
    fall(&mut stage);
    stage.hears(&assign(2));
    fall(&mut stage);
    stage.stopped(old);
    assert_eq!(stage.wanted(), []);
}

#[test]
fn events_of_jobs_that_never_were_are_ignored() {
    let mut stage = Stage::up(1);
    let key = JobKey(99);
    stage.accept(key);
    stage.step(vec![Advance {
        key,
        kind: DeltaKind::Text,
        tokens: vec![1],
        bytes: vec![b'a'],
    }]);
    stage.finish(key);
    stage.stopped(key);
    assert_eq!(stage.said(), []);
    assert!(stage.frames.is_empty());
    assert_eq!(stage.session.ignored(), 4);
}

#[test]
fn words_that_make_no_sense_are_ignored() {
    let mut stage = Stage::up(1);
    stage.input(Input::Text("{"));
    stage.input(Input::Text(r#"{"type":"from_the_future"}"#));
    stage.input(Input::Binary(&[1, 2, 3]));
    stage.hears(&RelayToNode::Acknowledge {
        alias: 5,
        offset: 5,
    });
    stage.hears(&RelayToNode::Welcome {
        node: "again".into(),
        heartbeat_ms: 0,
    });
    assert_eq!(stage.said(), []);
    assert_eq!(stage.wanted(), []);
    assert_eq!(stage.session.ignored(), 5);
}

#[test]
fn work_before_the_welcome_is_ignored() {
    let mut stage = Stage::new(1);
    stage.input(Input::Connected);
    stage.wanted();
    stage.hears(&assign(1));
    assert_eq!(stage.wanted(), []);
}
