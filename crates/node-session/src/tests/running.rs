//! Jobs: slots, steps, ends, cancel.

use protocol::limits::{ANSWER_BYTES_MAX, ENTRY_BYTES_MAX, TICKET_BYTES_MAX};
use protocol::{Answer, DeltaKind, ErrorCode, Failure, NodeToRelay, Piece, PieceKind, RelayToNode};

use super::stage::*;
use crate::{Advance, End, EngineEvent, Input, JobKey, Output};

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
    assert_eq!((model.as_str(), &**wish), (MODEL, &request().into()));
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
    let key = stage.start_with(1, |_, window_bytes| *window_bytes = u32::MAX);
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
fn an_attempt_that_still_stops_says_so_though_a_later_attempt_at_its_job_came() {
    let mut stage = Stage::up(2);
    let key = stage.start(1);
    stage.accept(key);
    stage.said();
    stage.hears(&RelayToNode::Cancel { alias: 1 });
    let mut again = assign(2);
    if let RelayToNode::Assign { job, attempt, .. } = &mut again {
        (*job, *attempt) = (job_id(1), 2);
    }
    stage.hears(&again);
    stage.stopped(key);
    // The relay waits for it, and takes a node that does not stop for one that hangs.
    assert!(matches!(
        stage.said()[..],
        [NodeToRelay::Cancelled { alias: 1, .. }]
    ));
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
        request: request().into(),
    });
    let ours = stage.checked();
    let failure = Some(Failure::new(
        ErrorCode::ContextLengthExceeded,
        "9000 of 4096",
    ));
    stage.engine(EngineEvent::Checked {
        check: ours,
        failure: failure.clone(),
    });
    assert_eq!(
        stage.said(),
        [NodeToRelay::PromptChecked { check: 5, failure }]
    );
}

#[test]
fn an_answer_to_a_question_of_an_earlier_connection_is_not_taken_for_one_to_the_present() {
    let mut stage = Stage::up(1);
    let question = RelayToNode::CheckPrompt {
        check: 1,
        model: MODEL.into(),
        request: request().into(),
    };
    stage.hears(&question);
    let old = stage.checked();
    stage.fall_and_return();
    stage.hears(&question);
    let new = stage.checked();
    stage.said();
    let says = |stage: &mut Stage, check| {
        let failure = None;
        stage.engine(EngineEvent::Checked { check, failure });
        stage.said().len()
    };
    assert_eq!(says(&mut stage, old), 0);
    assert_eq!(says(&mut stage, new), 1);
}

#[test]
fn a_relay_that_asks_without_waiting_does_not_fill_the_engine() {
    let mut stage = Stage::up(1);
    for check in 0..100 {
        stage.hears(&RelayToNode::CheckPrompt {
            check,
            model: MODEL.into(),
            request: request().into(),
        });
    }
    assert!(stage.wanted().len() <= 4);
}

#[test]
fn an_answer_that_was_begun_elsewhere_goes_on_at_its_end() {
    let mut stage = Stage::up(1);
    let begun = Answer {
        model: Some(MODEL.into()),
        pieces: vec![
            Piece {
                kind: PieceKind::Reasoning,
                text: "hm".into(),
                tokens: vec![4],
            },
            Piece {
                kind: PieceKind::Text,
                text: "réd".into(),
                tokens: vec![5, 6],
            },
        ],
    };
    let mut assignment = assign(3);
    if let RelayToNode::Assign { answer, .. } = &mut assignment {
        *answer = Some(begun.clone());
    }
    stage.hears(&assignment);
    let Some(Output::Start { key, answer, .. }) = stage.wanted.pop() else {
        panic!("nothing started")
    };
    assert_eq!(answer, Some(Box::new(begun)));
    stage.accept(key);
    stage.step(vec![advance(key, &[7], ", blue")]);
    assert_eq!(stage.entries(), [[(3, 6, vec![7], ", blue".to_owned())]]);
    stage.said();
    stage.finish(key);
    assert!(matches!(
        stage.said()[..],
        [NodeToRelay::Completed { offset: 12, .. }]
    ));
    // The text that it was given counts in the hash, and in the tokens, as if it were its own.
    stage.fall_and_return();
    stage.said();
    stage.hears(&adopt(3, 9, "hmréd", 3));
    assert_eq!(stage.entries(), [[(9, 6, vec![7], ", blue".to_owned())]]);
}

#[test]
fn an_assignment_that_breaks_a_limit_is_refused() {
    let mut stage = Stage::up(1);
    let mut broken = [assign(1), assign(2)];
    if let RelayToNode::Assign { ticket, .. } = &mut broken[0] {
        *ticket = "t".repeat(TICKET_BYTES_MAX + 1);
    }
    if let RelayToNode::Assign { answer, .. } = &mut broken[1] {
        let piece = Piece {
            kind: PieceKind::Text,
            text: "x".repeat(protocol::limits::CARRIED_BYTES_MAX + 1),
            tokens: Vec::new(),
        };
        *answer = Some(Answer {
            model: None,
            pieces: vec![piece],
        });
    }
    for message in &broken {
        stage.hears(message);
        assert!(matches!(stage.said()[..], [NodeToRelay::Failed { .. }]));
    }
    assert_eq!(stage.wanted(), []);
    stage.start(3);
}

#[test]
fn an_answer_over_its_limit_fails_and_stops() {
    let mut stage = Stage::up(1);
    let key = stage.start(1);
    stage.accept(key);
    let piece = "a".repeat(ENTRY_BYTES_MAX);
    for _ in (0..ANSWER_BYTES_MAX).step_by(ENTRY_BYTES_MAX) {
        stage.step(vec![advance(key, &[1], &piece)]);
        let offset = stage.session.jobs[&key].stream.end().offset;
        stage.hears(&acknowledge(1, offset));
    }
    stage.said();
    stage.wanted();
    stage.step(vec![advance(key, &[1], "b")]);
    let said = stage.said();
    assert!(
        matches!(&said[..], [NodeToRelay::Failed { alias: 1, failure }] if failure.code == ErrorCode::EngineFailed)
    );
    assert_eq!(stage.wanted(), [Output::Stop { key }]);
    assert_eq!(stage.session.unacknowledged_bytes(), 0);
}

#[test]
fn what_is_not_done_in_the_drains_time_is_handed_back_with_all_that_was_said() {
    let mut stage = Stage::up(2);
    let (answering, reading) = (stage.start(1), stage.start(2));
    stage.accept(answering);
    stage.step(vec![advance(answering, &[7], "Red")]);
    stage.input(Input::DrainRequested);
    stage.said();
    stage.wanted();
    stage.input(Input::DrainTimeOver);
    for (message, expected) in stage.said().iter().zip([1, 2]) {
        assert!(matches!(message, NodeToRelay::Failed { alias, failure }
                if *alias == expected && failure.code == ErrorCode::Draining));
    }
    let stops = [answering, reading].map(|key| Output::Stop { key });
    let wanted = stage.wanted();
    assert_eq!(wanted[..2], stops);
    assert_eq!(wanted.last(), Some(&Output::Exit(End::Drained)));
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
    stage.hears(&acknowledge(5, 5));
    stage.hears(&fence(7));
    stage.hears(&RelayToNode::Cancel { alias: 5 });
    stage.hears(&RelayToNode::Welcome {
        node: "again".into(),
        heartbeat_ms: 0,
    });
    assert_eq!(stage.said(), []);
    assert_eq!(stage.wanted(), []);
    assert_eq!(stage.session.ignored(), 7);
}

#[test]
fn work_before_the_welcome_is_ignored() {
    let mut stage = Stage::new(1);
    stage.input(Input::Connected);
    stage.wanted();
    stage.hears(&assign(1));
    assert_eq!(stage.wanted(), []);
}
