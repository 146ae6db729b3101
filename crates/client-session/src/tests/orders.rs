//! One connection: order, acknowledgements, cancelling, nonsense.

use protocol::{ClientToRelay, ErrorCode, Failure, RelayToClient, WaitRange};

use super::{ALIAS, JOB, Stage, assigned, completed, counted};
use crate::{Event, Input};

fn acknowledge(offset: u32, whole: bool) -> ClientToRelay {
    ClientToRelay::Acknowledge {
        job: JOB,
        offset,
        whole,
    }
}

#[test]
fn bytes_sent_twice_are_told_once() {
    let mut stage = Stage::started();
    stage.tokens(ALIAS, 0, "Hel");
    stage.tokens(ALIAS, 0, "Hello");
    stage.tokens(ALIAS, 5, "!");
    assert_eq!(stage.text(), "Hello!");
}

#[test]
fn a_job_waits_for_the_welcome() {
    let mut stage = Stage::new();
    stage.lost();
    stage.submit();
    stage.pass();
    stage.input(Input::Connected { key: None });
    assert_eq!(stage.sent, []);
    stage.connected();
    assert!(matches!(stage.sent[..], [ClientToRelay::Submit { .. }]));
}

#[test]
fn what_is_told_about_the_wait_is_passed_on() {
    let mut stage = Stage::new();
    stage.submit();
    stage.submitted();
    let wait = Some(WaitRange {
        ms_min: 20_000,
        ms_max: 40_000,
    });
    stage.say(&RelayToClient::Queued {
        job: JOB,
        model: "m".into(),
        position: 2,
        nodes: 3,
        wait,
    });
    let queued = Event::Queued {
        model: "m".into(),
        position: 2,
        nodes: 3,
        wait,
    };
    assert_eq!(stage.events, [queued]);
}

#[test]
fn a_gap_is_asked_for_and_what_comes_meanwhile_is_passed_over() {
    let mut stage = Stage::started();
    stage.tokens(ALIAS, 0, "He");
    stage.tokens(ALIAS, 3, "lo");
    stage.tokens(ALIAS, 5, "!");
    stage.say(&completed(6));
    let [
        ClientToRelay::Resume {
            offset: 2,
            answer: Some(_),
            ..
        },
    ] = &stage.sent[..]
    else {
        panic!("{:?}", stage.sent);
    };
    stage.submitted();
    stage.assigned(2);
    stage.tokens(ALIAS, 2, "llo!");
    stage.say(&completed(6));
    assert_eq!(stage.text(), "Hello!");
    assert_eq!(stage.sent.last(), Some(&acknowledge(6, true)));
    assert!(!stage.session.is_busy());
}

#[test]
fn a_gap_that_stays_interrupts_and_cancels_the_job() {
    let mut stage = Stage::started();
    for _ in 0..3 {
        stage.tokens(ALIAS, 3, "lo");
        stage.submitted();
        stage.assigned(3);
    }
    assert_eq!(
        stage
            .events
            .iter()
            .filter(|event| **event == Event::Interrupted)
            .count(),
        1
    );
    assert_eq!(stage.sent.last(), Some(&ClientToRelay::Cancel { job: JOB }));
    assert!(!stage.session.is_busy());
}

#[test]
fn the_end_is_acknowledged_as_whole() {
    let mut stage = Stage::started();
    stage.tokens(ALIAS, 0, "Hi");
    stage.say(&completed(2));
    assert_eq!(stage.sent, [acknowledge(2, true)]);
    assert!(matches!(stage.events.last(), Some(Event::Completed { .. })));
    assert!(!stage.session.is_busy());
}

#[test]
fn an_empty_answer_is_acknowledged_too() {
    let mut stage = Stage::started();
    stage.say(&completed(0));
    assert_eq!(stage.sent, [acknowledge(0, true)]);
}

#[test]
fn an_end_before_what_arrived_is_an_interruption() {
    let mut stage = Stage::started();
    stage.tokens(ALIAS, 0, "Hi");
    stage.say(&completed(1));
    assert_eq!(stage.events.last(), Some(&Event::Interrupted));
}

#[test]
fn slow_answers_are_acknowledged_once_a_second_at_most() {
    let mut stage = Stage::started();
    for step in 0..100_u32 {
        stage.now = u64::from(step) * 100;
        stage.tokens(ALIAS, step * 1024, &"a".repeat(1024));
    }
    let count = stage.sent.len();
    assert!(
        (8..=10).contains(&count),
        "{count} acknowledgements in 9.9 s"
    );
}

#[test]
fn fast_answers_are_acknowledged_at_each_quarter_of_the_window() {
    let mut stage = Stage::started();
    for step in 0..64_u32 {
        stage.tokens(ALIAS, step * 1024, &"a".repeat(1024));
    }
    let quarters = [16, 32, 48, 64].map(|kib| acknowledge(kib << 10, false));
    assert_eq!(stage.sent, quarters);
}

#[test]
fn an_older_name_is_fenced_by_a_newer_one() {
    let mut stage = Stage::started();
    stage.tokens(ALIAS, 0, "Hel");
    stage.say(&assigned(2, 10, 3));
    stage.tokens(ALIAS, 3, "XX");
    stage.tokens(10, 3, "lo");
    assert_eq!(stage.text(), "Hello");
}

#[test]
fn tokens_without_text_are_counted_once() {
    let mut stage = Stage::started();
    stage.tokens(ALIAS, 0, "");
    stage.tokens(ALIAS, 0, "a");
    stage.tokens(ALIAS, 0, "a");
    assert_eq!(counted(&stage.events), 2);
}

#[test]
fn a_stopped_job_ends_when_the_relay_says_so() {
    let mut stage = Stage::started();
    stage.input(Input::Cancel { job: JOB });
    assert_eq!(stage.sent, [ClientToRelay::Cancel { job: JOB }]);
    assert!(stage.session.is_busy());
    let failure = Failure::new(ErrorCode::Cancelled, "stopped");
    stage.say(&RelayToClient::Failed {
        job: JOB,
        failure: failure.clone(),
    });
    assert_eq!(stage.events, [Event::Failed(failure)]);
}

#[test]
fn what_comes_for_a_job_that_ended_is_ignored() {
    let mut stage = Stage::started();
    stage.say(&RelayToClient::Failed {
        job: JOB,
        failure: Failure::new(ErrorCode::NodeLost, "gone"),
    });
    stage.forget();
    stage.tokens(ALIAS, 0, "late");
    stage.say(&completed(4));
    assert_eq!(stage.events, []);
    assert_eq!(stage.session.ignored(), 2);
}

#[test]
fn nonsense_is_counted_and_harms_nothing() {
    let mut stage = Stage::started();
    stage.input(Input::Text("{\"type\":\"from_the_future\"}"));
    stage.input(Input::Text("nonsense"));
    stage.input(Input::Binary(&[0xff; 40]));
    assert_eq!(stage.session.ignored(), 3);
    stage.tokens(ALIAS, 0, "ok");
    assert_eq!(stage.text(), "ok");
}
