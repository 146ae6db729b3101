//! A paused job keeps its place, and the others do not notice.

use crate::endless;
use crate::harness::{Ending, Rig, greedy, text_of};
use node_container::engine::{Command, EngineEvent, JobKey};
use protocol::ChatRequest;

/// Waits until the job was told on; all that was told until then.
fn advanced(rig: &mut Rig, key: JobKey) -> Vec<EngineEvent> {
    let mut told = Vec::new();
    while text_of(&told, key).is_none() {
        told.push(rig.event());
    }
    told
}

/// Waits until some of the job's prompt was read.
fn progressed(rig: &mut Rig, key: JobKey) {
    while !matches!(rig.event(), EngineEvent::Progress { key: of, .. } if of == key) {}
}

/// Lets another job run from its beginning to its end: nothing is told of the paused one.
fn stands_still(rig: &mut Rig, paused: JobKey, request: ChatRequest) {
    let other = rig.start(request);
    loop {
        match rig.event() {
            EngineEvent::Step(advances) => {
                assert!(advances.iter().all(|advance| advance.key == other));
            }
            EngineEvent::Finished { key, .. } => {
                assert_eq!(key, other);
                return;
            }
            EngineEvent::Accepted { key, .. } | EngineEvent::Progress { key, .. } => {
                assert_ne!(key, paused);
            }
            EngineEvent::Checked { .. } | EngineEvent::Cached(_) => {}
            failed @ (EngineEvent::Failed { .. } | EngineEvent::Cancelled { .. }) => {
                panic!("{failed:?}");
            }
        }
    }
}

#[test]
fn a_paused_answer_stands_still_and_goes_on_where_it_was() {
    let mut rig = Rig::new(2, 512);
    // Long enough to be paused long before its end.
    let request = ChatRequest {
        max_tokens: Some(120),
        ..endless("Tell me a story about a lighthouse.")
    };
    let whole = rig.ask(request.clone());
    let paused = rig.start(request.clone());
    let mut told = advanced(&mut rig, paused);
    rig.send(Command::Pause { key: paused });
    told.extend(rig.settle());
    let text = text_of(&told, paused).unwrap_or_default();
    let other = ChatRequest {
        max_tokens: Some(20),
        ..request
    };
    stands_still(&mut rig, paused, other);
    rig.send(Command::Unpause { key: paused });
    let rest = rig.follow(paused);
    assert!(!rest.text.is_empty());
    assert_eq!(format!("{text}{}", rest.text), whole.text);
    assert_eq!(rest.finished(), whole.finished());
}

#[test]
fn a_paused_job_can_be_stopped() {
    let mut rig = Rig::new(1, 512);
    let key = rig.start(endless("Tell me a story."));
    advanced(&mut rig, key);
    rig.send(Command::Pause { key });
    rig.send(Command::Stop { key });
    assert!(matches!(rig.follow(key).ending, Ending::Cancelled(_)));
    assert!(rig.ask(greedy("What is 2+2?")).text.contains('4'));
}

#[test]
fn a_job_that_is_paused_while_its_prompt_is_read_does_not_begin() {
    let mut rig = Rig::new(2, 2048);
    // Read in many steps, so that a pause comes before the last one, on a busy machine too.
    let filler = "The quick brown fox jumps over the lazy dog. ".repeat(150);
    let request = ChatRequest {
        max_tokens: Some(4),
        ..endless(&format!("{filler}What is 2+2?"))
    };
    let key = rig.start(request);
    // At once, when the prompt is still being rendered or has hardly begun to be read.
    rig.send(Command::Pause { key });
    // Unknown jobs are no fault.
    rig.send(Command::Pause { key: JobKey(99) });
    rig.send(Command::Unpause { key: JobKey(99) });
    let told = rig.settle();
    let is_accepted =
        |event: &EngineEvent| matches!(event, EngineEvent::Accepted { key: of, .. } if *of == key);
    assert!(told.iter().any(is_accepted), "{told:?}");
    assert_eq!(text_of(&told, key), None);
    let other = greedy("What is 2+2?");
    stands_still(&mut rig, key, other.clone());
    rig.send(Command::Unpause { key });
    // And in the midst of it.
    progressed(&mut rig, key);
    rig.send(Command::Pause { key });
    let told = rig.settle();
    assert_eq!(text_of(&told, key), None);
    stands_still(&mut rig, key, other);
    rig.send(Command::Unpause { key });
    assert_eq!(rig.follow(key).finished().1.completion_tokens, 4);
}
