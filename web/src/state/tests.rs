//! The conversation's rules.

use client_session::Event;
use protocol::limits::{CLIENT_FRAME_BYTES_MAX, MESSAGES_MAX};
use protocol::{
    ClientToRelay, DeltaKind, ErrorCode, Failure, FinishReason, JobId, NodeClass, Speed, Usage,
};

use super::{Action, Effect, Message, MessageId, Phase, State, Trouble};
use crate::storage;
use crate::wording::Remedy;

fn job(number: u8) -> JobId {
    JobId::from_random([number; 16])
}

fn ready() -> State {
    let mut state = State::default();
    state.apply(Action::ChooseTier("demo".to_owned()));
    state.apply(Action::Welcomed);
    state
}

fn ask(state: &mut State, text: &str, number: u8) -> Vec<Effect> {
    state.apply(Action::Ask {
        text: text.to_owned(),
        job: job(number),
    })
}

fn progress(state: &mut State, number: u8, event: Event) -> Vec<Effect> {
    state.apply(Action::Progress {
        job: job(number),
        event,
    })
}

fn delta(text: &str) -> Event {
    Event::Delta {
        kind: DeltaKind::Text,
        text: text.to_owned(),
        token_count: 1,
    }
}

fn completed() -> Event {
    Event::Completed {
        finish_reason: FinishReason::Stop,
        usage: Usage {
            prompt_tokens: 3,
            completion_tokens: 2,
            cached_tokens: 0,
        },
        speed: Speed {
            queued_ms: 0,
            first_token_ms: 5,
            decode_tokens_per_second: 40.0,
        },
    }
}

fn answered(state: &mut State, question: &str, answer: &str, number: u8) {
    ask(state, question, number);
    progress(state, number, delta(answer));
    progress(state, number, completed());
}

fn submitted(effects: &[Effect]) -> Option<Vec<String>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Submit { request, .. } => Some(
            request
                .messages
                .iter()
                .map(|m| format!("{}: {}", m.role.as_str(), m.content))
                .collect(),
        ),
        Effect::Cancel(_) | Effect::Save => None,
    })
}

fn last_phase(state: &State) -> Phase {
    let answer = state.messages().last().unwrap().answer().unwrap();
    answer.phase.clone()
}

#[test]
fn a_question_goes_through_every_phase_to_its_answer() {
    let mut state = ready();
    let effects = ask(&mut state, "Hi", 1);
    assert_eq!(submitted(&effects).unwrap(), ["user: Hi"]);
    assert_eq!(last_phase(&state), Phase::Sent);
    progress(
        &mut state,
        1,
        Event::Queued {
            model: "m".to_owned(),
            position: 2,
            nodes: 1,
            wait: None,
        },
    );
    assert!(matches!(
        last_phase(&state),
        Phase::Queued { position: 2, .. }
    ));
    progress(
        &mut state,
        1,
        Event::Assigned {
            model: "m".to_owned(),
            node: "rig-1".to_owned(),
            class: NodeClass::Rig,
        },
    );
    assert_eq!(last_phase(&state), Phase::Reading);
    let revision = state.messages()[1].revision;
    progress(&mut state, 1, delta("Hel"));
    progress(&mut state, 1, delta("lo"));
    assert!(state.messages()[1].revision > revision);
    assert_eq!(last_phase(&state), Phase::Streaming);
    assert_eq!(progress(&mut state, 1, completed()), [Effect::Save]);
    assert!(matches!(last_phase(&state), Phase::Done(meta) if meta.completion_tokens == 2));
    assert_eq!(state.messages()[1].text(), "Hello");
    assert_eq!(state.running(), None);
}

#[test]
fn the_conversation_so_far_goes_along() {
    let mut state = ready();
    answered(&mut state, "One", "1", 1);
    let effects = ask(&mut state, "Two", 2);
    assert_eq!(
        submitted(&effects).unwrap(),
        ["user: One", "assistant: 1", "user: Two"]
    );
}

#[test]
fn a_question_without_an_answer_joins_the_next() {
    let mut state = ready();
    ask(&mut state, "One", 1);
    progress(
        &mut state,
        1,
        Event::Failed(Failure::new(ErrorCode::NodeLost, "gone")),
    );
    let effects = ask(&mut state, "Two", 2);
    assert_eq!(submitted(&effects).unwrap(), ["user: One\n\nTwo"]);
}

#[test]
fn what_is_asked_without_a_connection_is_sent_when_there_is_one() {
    let mut state = State::default();
    state.apply(Action::ChooseTier("demo".to_owned()));
    assert_eq!(submitted(&ask(&mut state, "Hi", 1)), None);
    assert_eq!(last_phase(&state), Phase::Unsent);
    assert!(submitted(&state.apply(Action::Welcomed)).is_some());
    assert_eq!(submitted(&state.apply(Action::Welcomed)), None);
}

#[test]
fn stop_cancels_keeps_the_text_and_ignores_what_still_comes() {
    let mut state = ready();
    ask(&mut state, "Hi", 1);
    progress(&mut state, 1, delta("Hel"));
    assert_eq!(
        state.apply(Action::Stop),
        [Effect::Cancel(job(1)), Effect::Save]
    );
    progress(&mut state, 1, delta("lo"));
    progress(
        &mut state,
        1,
        Event::Failed(Failure::new(ErrorCode::Cancelled, "")),
    );
    assert_eq!(last_phase(&state), Phase::Stopped);
    assert_eq!(state.messages()[1].text(), "Hel");
    assert_eq!(state.apply(Action::Stop), []);
}

#[test]
fn a_stopped_question_that_was_never_sent_is_not_cancelled() {
    let mut state = State::default();
    ask(&mut state, "Hi", 1);
    assert_eq!(state.apply(Action::Stop), [Effect::Save]);
    assert_eq!(submitted(&state.apply(Action::Welcomed)), None);
}

#[test]
fn a_lost_connection_is_a_failure_that_can_be_asked_again() {
    let mut state = ready();
    ask(&mut state, "Hi", 1);
    progress(&mut state, 1, delta("Hel"));
    progress(&mut state, 1, Event::Interrupted);
    assert_eq!(last_phase(&state), Phase::Failed(Trouble::Interrupted));
    let answer = state.messages()[1].id;
    let effects = state.apply(Action::AskAgain {
        message: answer,
        job: job(2),
    });
    assert_eq!(submitted(&effects).unwrap(), ["user: Hi"]);
    assert_eq!(state.messages().len(), 2);
    assert_ne!(state.messages()[1].id, answer);
}

#[test]
fn a_loss_in_mid_answer_is_shown_until_the_answer_goes_on() {
    let mut state = ready();
    ask(&mut state, "Hi", 1);
    progress(&mut state, 1, delta("Hel"));
    progress(&mut state, 1, Event::Reconnecting);
    assert_eq!(last_phase(&state), Phase::Reconnecting);
    assert!(state.running().is_some());
    progress(
        &mut state,
        1,
        Event::Assigned {
            model: "m".to_owned(),
            node: "rig-2".to_owned(),
            class: NodeClass::Rig,
        },
    );
    assert_eq!(last_phase(&state), Phase::Reading);
    progress(&mut state, 1, delta("lo"));
    assert_eq!(last_phase(&state), Phase::Streaming);
    assert_eq!(state.messages()[1].text(), "Hello");
}

#[test]
fn an_answer_remembers_whom_the_person_asked() {
    let mut state = ready();
    ask(&mut state, "Hi", 1);
    state.apply(Action::ChooseTier("heavy".to_owned()));
    let answer = state.messages()[1].answer().unwrap();
    assert_eq!(answer.tier.as_deref(), Some("demo"));
}

#[test]
fn rewriting_a_question_drops_what_came_after_it() {
    let mut state = ready();
    answered(&mut state, "One", "1", 1);
    answered(&mut state, "Two", "2", 2);
    let first = state.messages()[0].id;
    let effects = state.apply(Action::Rewrite {
        message: first,
        text: "Uno".to_owned(),
        job: job(3),
    });
    assert_eq!(submitted(&effects).unwrap(), ["user: Uno"]);
    assert_eq!(state.messages().len(), 2);
    assert!(state.message(first).unwrap().revision > 0);
}

#[test]
fn a_new_chat_stops_the_old_one_and_can_be_undone_until_the_next_question() {
    let mut state = ready();
    answered(&mut state, "One", "1", 1);
    state.apply(Action::NewChat);
    assert!(state.messages().is_empty() && state.can_undo());
    state.apply(Action::UndoNewChat);
    assert_eq!(state.messages().len(), 2);
    ask(&mut state, "Two", 2);
    assert_eq!(
        state.apply(Action::NewChat),
        [Effect::Cancel(job(2)), Effect::Save, Effect::Save]
    );
    ask(&mut state, "Three", 3);
    assert!(!state.can_undo());
}

#[test]
fn a_reload_keeps_the_text_and_says_that_the_answer_broke() {
    let mut state = ready();
    ask(&mut state, "Hi", 1);
    progress(&mut state, 1, delta("Hel"));
    let stored = storage::write(state.messages());
    let mut state = State::restore(storage::read(&stored), Some("demo".to_owned()));
    assert_eq!(state.messages()[1].text(), "Hel");
    assert_eq!(last_phase(&state), Phase::Failed(Trouble::Reloaded));
    ask(&mut state, "More", 2);
    assert!(state.messages().is_sorted_by(|a, b| a.id < b.id));
}

fn is_too_large(state: &State) -> bool {
    let Phase::Failed(trouble) = last_phase(state) else {
        return false;
    };
    crate::wording::failure(&trouble).1 == Remedy::NewChat
        && matches!(trouble, Trouble::Failure(failure) if failure.code == ErrorCode::TooLarge)
}

#[test]
fn a_conversation_over_the_frame_limit_is_not_sent() {
    let mut state = ready();
    let effects = ask(&mut state, &"x".repeat(CLIENT_FRAME_BYTES_MAX), 1);
    assert_eq!(submitted(&effects), None);
    assert!(is_too_large(&state));
}

#[test]
fn what_only_grows_over_the_frame_limit_as_json_is_not_sent_either() {
    let mut state = ready();
    // Each of these takes one byte here and two in the frame.
    let effects = ask(&mut state, &"\n\"".repeat(CLIENT_FRAME_BYTES_MAX / 3), 1);
    assert_eq!(submitted(&effects), None);
    assert!(is_too_large(&state));
}

#[test]
fn every_frame_that_fits_is_sent() {
    let text = "é\n".repeat(CLIENT_FRAME_BYTES_MAX / 4 - 200);
    let mut state = ready();
    let effects = ask(&mut state, &text, 1);
    let Some(Effect::Submit {
        job,
        model,
        request,
    }) = effects.into_iter().next()
    else {
        panic!("it was not sent");
    };
    let frame = protocol::encode(&ClientToRelay::Submit {
        job,
        model,
        request: (*request).into(),
    });
    assert!(frame.len() > CLIENT_FRAME_BYTES_MAX - 2000);
    assert!(protocol::decode::<ClientToRelay>(&frame, CLIENT_FRAME_BYTES_MAX).is_ok());
}

#[test]
fn a_conversation_of_too_many_messages_is_not_sent() {
    let mut before = ready();
    answered(&mut before, "Ping", "Pong", 1);
    let messages: Vec<Message> = before
        .messages()
        .iter()
        .cycle()
        .cloned()
        .zip(0..)
        .map(|(message, id)| Message {
            id: MessageId(id),
            ..message
        })
        .take(MESSAGES_MAX)
        .collect();
    let mut state = State::restore(messages, Some("demo".to_owned()));
    state.apply(Action::Welcomed);
    let effects = ask(&mut state, "Ping", 1);
    assert_eq!(submitted(&effects), None);
    assert!(is_too_large(&state));
}

#[test]
fn thoughts_come_before_the_answer_and_are_not_sent_back() {
    let mut state = ready();
    ask(&mut state, "one?", 1);
    let thought = |text: &str| Event::Delta {
        kind: DeltaKind::Reasoning,
        text: text.to_owned(),
        token_count: 1,
    };
    progress(&mut state, 1, thought("It says "));
    progress(&mut state, 1, thought("one."));
    let answer = |state: &State| state.messages()[1].answer().expect("an answer").clone();
    assert_eq!(answer(&state).phase, Phase::Thinking);
    progress(&mut state, 1, delta("1"));
    assert_eq!(answer(&state).phase, Phase::Streaming);
    progress(&mut state, 1, completed());
    assert_eq!(answer(&state).thoughts, "It says one.");
    assert_eq!(answer(&state).text, "1");
    let effects = ask(&mut state, "two?", 2);
    assert_eq!(
        submitted(&effects).expect("asked"),
        ["user: one?", "assistant: 1", "user: two?"]
    );
}
