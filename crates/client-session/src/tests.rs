//! Behaviour of a client session, by sentence.

use protocol::{
    ChatRequest, DeltaKind, ErrorCode, Failure, FinishReason, JobId, NodeClass, RelayToClient,
    Speed, TokenFrameWriter, Usage, encode,
};

use crate::{ClientSession, Event, Input, Output};

const JOB: JobId = JobId::from_random([7; 16]);

fn started() -> ClientSession {
    let mut session = ClientSession::new();
    session.handle_input(
        0,
        Input::Submit {
            job: JOB,
            model: "demo".into(),
            request: Box::new(ChatRequest::default()),
        },
    );
    say(
        &mut session,
        &RelayToClient::Assigned {
            job: JOB,
            attempt: 1,
            alias: 9,
            model: "m".into(),
            node: "n".into(),
            class: NodeClass::Rig,
        },
    );
    while session.poll_output().is_some() {}
    session
}

fn say(session: &mut ClientSession, message: &RelayToClient) {
    session.handle_input(0, Input::Text(&encode(message)));
}

fn tokens(session: &mut ClientSession, now: u64, offset: u32, bytes: &[u8]) {
    let mut writer = TokenFrameWriter::new();
    assert!(writer.push(9, offset, DeltaKind::Text, &[1], bytes));
    session.handle_input(now, Input::Binary(&writer.finish()));
}

fn text_of(session: &mut ClientSession) -> String {
    let mut all = String::new();
    while let Some(output) = session.poll_output() {
        if let Output::Event {
            event: Event::Delta { text, .. },
            ..
        } = output
        {
            all.push_str(&text);
        }
    }
    all
}

fn completed(offset: u32) -> RelayToClient {
    RelayToClient::Completed {
        job: JOB,
        offset,
        finish_reason: FinishReason::Stop,
        usage: Usage::default(),
        speed: Speed::default(),
    }
}

#[test]
fn bytes_sent_twice_are_told_once() {
    let mut session = started();
    tokens(&mut session, 0, 0, b"Hel");
    tokens(&mut session, 0, 0, b"Hello");
    tokens(&mut session, 0, 5, b"!");
    assert_eq!(text_of(&mut session), "Hello!");
}

#[test]
fn a_gap_interrupts_the_job() {
    let mut session = started();
    tokens(&mut session, 0, 3, b"lo");
    assert_eq!(
        session.poll_output(),
        Some(Output::Event {
            job: JOB,
            event: Event::Interrupted
        })
    );
    assert!(!session.is_busy());
}

#[test]
fn the_end_is_acknowledged_before_the_job_completes() {
    let mut session = started();
    tokens(&mut session, 0, 0, b"Hi");
    text_of(&mut session);
    say(&mut session, &completed(2));
    let first = session.poll_output();
    assert!(
        matches!(first, Some(Output::Send(text)) if text.contains("acknowledge") && text.contains("\"offset\":2"))
    );
    assert!(matches!(
        session.poll_output(),
        Some(Output::Event {
            event: Event::Completed { .. },
            ..
        })
    ));
}

#[test]
fn an_end_beyond_what_arrived_is_an_interruption() {
    let mut session = started();
    tokens(&mut session, 0, 0, b"Hi");
    text_of(&mut session);
    say(&mut session, &completed(3));
    assert_eq!(
        session.poll_output(),
        Some(Output::Event {
            job: JOB,
            event: Event::Interrupted
        })
    );
}

#[test]
fn long_answers_are_acknowledged_now_and_then() {
    let mut session = started();
    let mut sent = 0;
    for step in 0..100_u32 {
        tokens(
            &mut session,
            u64::from(step) * 100,
            step * 1024,
            &[b'a'; 1024],
        );
        while let Some(output) = session.poll_output() {
            sent += usize::from(matches!(output, Output::Send(_)));
        }
    }
    assert!((8..=10).contains(&sent), "{sent} acknowledgements in 9.9 s");
}

#[test]
fn a_lost_socket_interrupts_every_job() {
    let mut session = started();
    session.handle_input(0, Input::Closed);
    assert_eq!(
        session.poll_output(),
        Some(Output::Event {
            job: JOB,
            event: Event::Interrupted
        })
    );
}

#[test]
fn what_comes_for_a_job_that_ended_is_ignored() {
    let mut session = started();
    say(
        &mut session,
        &RelayToClient::Failed {
            job: JOB,
            failure: Failure::new(ErrorCode::NodeLost, "gone"),
        },
    );
    while session.poll_output().is_some() {}
    tokens(&mut session, 0, 0, b"late");
    say(&mut session, &completed(4));
    assert_eq!(session.poll_output(), None);
    assert_eq!(session.ignored(), 2);
}

#[test]
fn nonsense_is_counted_and_harms_nothing() {
    let mut session = started();
    session.handle_input(0, Input::Text("{\"type\":\"from_the_future\"}"));
    session.handle_input(0, Input::Text("nonsense"));
    session.handle_input(0, Input::Binary(&[0xff; 40]));
    assert_eq!(session.ignored(), 3);
    tokens(&mut session, 0, 0, b"ok");
    assert_eq!(text_of(&mut session), "ok");
}
