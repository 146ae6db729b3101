//! Losing the connection and coming back.

use protocol::limits::CLIENT_FRAME_BYTES_MAX;
use protocol::{
    AnswerHash, ChatMessage, ChatRequest, ClientToRelay, CloseCode, ErrorCode, Failure, JobRequest,
    RelayToClient, Role, encode,
};

use super::{ALIAS, JOB, Stage, assigned, completed, settings};
use crate::{Event, Input, Settings};

#[test]
fn a_lost_job_is_resumed_with_all_that_a_new_relay_needs() {
    let mut stage = Stage::started();
    stage.tokens(ALIAS, 0, "Hel");
    stage.tokens(ALIAS, 3, "lo");
    stage.lost();
    assert_eq!(stage.events.last(), Some(&Event::Reconnecting));
    assert_eq!(stage.connects, 0);
    stage.pass();
    assert_eq!(stage.connects, 1);
    stage.connected();
    let [
        ClientToRelay::Resume {
            ticket,
            attempt,
            offset,
            tokens,
            hash,
            model,
            request,
            answer,
            ..
        },
    ] = &stage.sent[..]
    else {
        panic!("{:?}", stage.sent);
    };
    assert_eq!((ticket.as_str(), model.as_str()), ("t", "demo"));
    assert_eq!((*attempt, *offset, *tokens), (1, 5, 2));
    assert_eq!(*hash, AnswerHash::of(b"Hello"));
    assert_eq!(request.turns(), 1);
    let answer = answer.as_ref().unwrap();
    assert_eq!(answer.model.as_deref(), Some("m"));
    assert_eq!(answer.pieces[0].text, "Hello");
    assert_eq!(answer.pieces[0].tokens, [1, 1]);
}

#[test]
fn an_answer_goes_on_under_its_new_name() {
    let mut stage = Stage::started();
    stage.tokens(ALIAS, 0, "Hel");
    stage.lost();
    stage.pass();
    stage.connected();
    stage.submitted();
    stage.say(&assigned(1, 77, 3));
    stage.tokens(ALIAS, 3, "old");
    stage.tokens(77, 3, "lo");
    stage.say(&completed(5));
    assert_eq!(stage.text(), "Hello");
    assert!(matches!(stage.events.last(), Some(Event::Completed { .. })));
}

#[test]
fn a_job_without_a_ticket_is_submitted_again() {
    let mut stage = Stage::new();
    stage.submit();
    stage.forget();
    stage.lost();
    stage.pass();
    stage.connected();
    assert!(matches!(
        stage.sent[..],
        [ClientToRelay::Submit { job: JOB, .. }]
    ));
}

#[test]
fn a_loss_is_told_once_however_many_tries_fail() {
    let mut stage = Stage::started();
    stage.lost();
    for _ in 0..3 {
        stage.pass();
        stage.lost();
    }
    stage.pass();
    stage.connected();
    // Welcomed, but lost before the relay has said anything of the job: still the same loss.
    stage.lost();
    assert_eq!(stage.events, [Event::Reconnecting]);
    stage.pass();
    stage.connected();
    stage.submitted();
    stage.lost();
    assert_eq!(stage.events, [Event::Reconnecting, Event::Reconnecting]);
}

#[test]
fn pauses_begin_short_grow_to_five_seconds_and_begin_anew() {
    let mut stage = Stage::with(Settings {
        stays: true,
        ..settings()
    });
    let pause = |stage: &mut Stage| {
        let before = stage.now;
        stage.lost();
        stage.pass();
        stage.now - before
    };
    let pauses: Vec<u64> = (0..20).map(|_| pause(&mut stage)).collect();
    assert!((100..400).contains(&pauses[0]), "{pauses:?}");
    assert!(pauses.iter().all(|pause| (100..=5_000).contains(pause)));
    assert!(pauses.iter().max().unwrap() > &2_000, "{pauses:?}");
    stage.connected();
    let first = pause(&mut stage);
    assert!((100..400).contains(&first));
    let mut other = Stage::with(Settings {
        seed: 2,
        stays: true,
        ..settings()
    });
    let others: Vec<u64> = (0..20).map(|_| pause(&mut other)).collect();
    assert_ne!(pauses, others);
}

#[test]
fn a_job_is_given_up_at_the_first_try_that_fails_after_a_minute() {
    let mut stage = Stage::started();
    stage.lost();
    let lost_at = stage.now;
    while stage.session.is_busy() {
        stage.pass();
        let late = stage.now - lost_at >= 60_000;
        stage.lost();
        assert_eq!(late, !stage.session.is_busy());
    }
    assert_eq!(stage.events, [Event::Reconnecting, Event::Interrupted]);
    assert_eq!(stage.session.poll_timeout(), None, "nobody needs the line");
}

#[test]
fn a_page_that_slept_tries_once_before_it_gives_up() {
    let mut stage = Stage::started();
    stage.lost();
    stage.now += 3_600_000;
    stage.input(Input::Tick);
    assert_eq!(stage.connects, 1);
    stage.connected();
    assert!(matches!(stage.sent[..], [ClientToRelay::Resume { .. }]));
    assert_eq!(stage.events, [Event::Reconnecting]);
}

#[test]
fn a_try_that_hears_nothing_has_failed() {
    let mut stage = Stage::started();
    stage.lost();
    stage.pass();
    stage.input(Input::Connected { key: None });
    stage.pass();
    stage.pass();
    assert_eq!(stage.connects, 2);
}

#[test]
fn hurry_tries_at_once_and_only_while_it_rests() {
    let mut stage = Stage::started();
    stage.input(Input::Hurry);
    assert_eq!(stage.connects, 0);
    stage.lost();
    stage.input(Input::Hurry);
    stage.input(Input::Hurry);
    assert_eq!(stage.connects, 1);
}

#[test]
fn an_idle_session_comes_back_only_if_it_stays() {
    let mut stage = Stage::new();
    stage.lost();
    assert_eq!(stage.session.poll_timeout(), None);
    let mut stage = Stage::with(Settings {
        stays: true,
        ..settings()
    });
    stage.lost();
    stage.pass();
    assert_eq!(stage.connects, 1);
}

#[test]
fn a_relay_that_will_not_have_this_client_interrupts_its_jobs() {
    let mut stage = Stage::started();
    let code = CloseCode::Unauthorized.number();
    stage.input(Input::Closed { code });
    assert_eq!(stage.events, [Event::Interrupted]);
    assert_eq!(stage.session.poll_timeout(), None);
}

#[test]
fn a_job_that_the_relay_disowns_has_failed() {
    let mut stage = Stage::started();
    stage.lost();
    stage.pass();
    stage.connected();
    let failure = Failure::new(ErrorCode::UnknownJob, "no such job");
    stage.say(&RelayToClient::Failed {
        job: JOB,
        failure: failure.clone(),
    });
    assert_eq!(stage.events.last(), Some(&Event::Failed(failure)));
    assert!(!stage.session.is_busy());
}

#[test]
fn a_job_stopped_while_away_ends_at_once_and_the_relay_hears_of_it_later() {
    let mut stage = Stage::with(Settings {
        stays: true,
        ..settings()
    });
    stage.submit();
    stage.submitted();
    stage.assigned(0);
    stage.tokens(ALIAS, 0, "Hel");
    stage.lost();
    stage.forget();
    stage.input(Input::Cancel { job: JOB });
    assert!(
        matches!(&stage.events[..], [Event::Failed(failure)] if failure.code == ErrorCode::Cancelled)
    );
    assert!(!stage.session.is_busy());
    stage.pass();
    stage.connected();
    assert!(matches!(
        stage.sent[..],
        [
            ClientToRelay::Resume { answer: None, .. },
            ClientToRelay::Cancel { job: JOB }
        ]
    ));
    stage.submitted();
    stage.assigned(3);
    assert_eq!(stage.events.len(), 1, "nothing more is told");
}

#[test]
fn a_job_stopped_just_before_the_loss_does_not_come_back() {
    let mut stage = Stage::started();
    stage.input(Input::Cancel { job: JOB });
    stage.lost();
    assert!(matches!(stage.events[..], [Event::Failed(_)]));
    assert!(!stage.session.is_busy());
}

#[test]
fn a_frame_over_its_limit_leaves_tokens_and_then_the_answer_out() {
    let long = |bytes: usize| {
        let message = ChatMessage {
            role: Role::User,
            content: "x".repeat(bytes),
            ..ChatMessage::default()
        };
        Box::new(JobRequest::from(ChatRequest {
            messages: vec![message],
            ..ChatRequest::default()
        }))
    };
    let resumed = |room: usize| {
        let mut stage = Stage::new();
        stage.input(Input::Submit {
            job: JOB,
            model: "demo".into(),
            request: long(CLIENT_FRAME_BYTES_MAX - room),
        });
        stage.submitted();
        stage.assigned(0);
        for offset in 0..1_000 {
            stage.tokens(ALIAS, offset, "a");
        }
        stage.forget();
        stage.lost();
        stage.pass();
        stage.connected();
        let frame = stage.sent.pop().unwrap();
        assert!(encode(&frame).len() <= CLIENT_FRAME_BYTES_MAX);
        let ClientToRelay::Resume { answer, .. } = frame else {
            panic!("no resume");
        };
        answer
    };
    assert_eq!(resumed(4_000).unwrap().token_count(), 1_000);
    let without_tokens = resumed(2_000).unwrap();
    assert_eq!(without_tokens.bytes(), 1_000);
    assert_eq!(without_tokens.token_count(), 0);
    assert_eq!(resumed(1_000), None);
}

#[test]
fn an_answer_of_two_models_is_carried_by_its_text() {
    let mut stage = Stage::started();
    stage.tokens(ALIAS, 0, "Hel");
    stage.say(&RelayToClient::Assigned {
        job: JOB,
        attempt: 2,
        alias: 10,
        model: "another".into(),
        node: "n".into(),
        class: protocol::NodeClass::Rig,
        offset: 3,
    });
    stage.tokens(10, 3, "lo");
    stage.lost();
    stage.pass();
    stage.connected();
    let Some(ClientToRelay::Resume {
        answer: Some(answer),
        ..
    }) = stage.sent.last()
    else {
        panic!("{:?}", stage.sent);
    };
    assert_eq!((answer.model.as_deref(), answer.token_count()), (None, 0));
    assert_eq!(answer.pieces[0].text, "Hello");
}

#[test]
fn a_key_is_shown_on_each_connection() {
    let mut stage = Stage::started();
    stage.lost();
    stage.pass();
    let key = Some("hg-1".to_owned());
    stage.input(Input::Connected { key: key.clone() });
    assert_eq!(stage.sent, [ClientToRelay::Hello { key }]);
}
