//! A paused job keeps its place, and the others do not notice.

use std::time::Duration;

use crate::endless;
use crate::harness::{Ending, Rig, greedy};
use node_container::engine::{Command, EngineEvent, JobKey};
use protocol::ChatRequest;

/// Waits until the job was told on.
fn advanced(rig: &mut Rig, key: JobKey) {
    loop {
        if let EngineEvent::Step(advances) = rig.event()
            && advances.iter().any(|advance| advance.key == key)
        {
            return;
        }
    }
}

#[test]
fn a_paused_answer_stands_still_and_goes_on_where_it_was() {
    let mut rig = Rig::new(2, 512);
    let request = ChatRequest {
        max_tokens: Some(40),
        ..endless("Tell me a story about a lighthouse.")
    };
    let whole = rig.ask(request.clone());
    let paused = rig.start(request.clone());
    let mut text = String::new();
    while text.is_empty() {
        if let EngineEvent::Step(advances) = rig.event() {
            text.push_str(std::str::from_utf8(&advances[0].bytes).expect("text"));
        }
    }
    rig.send(Command::Pause { key: paused });
    // Another job runs to its end meanwhile; nothing is told of the paused one but what was under way.
    let other = rig.start(request);
    let mut steps_of_paused = 0;
    loop {
        match rig.event() {
            EngineEvent::Step(advances) => {
                for advance in advances {
                    if advance.key == paused {
                        steps_of_paused += 1;
                        text.push_str(std::str::from_utf8(&advance.bytes).expect("text"));
                    }
                }
            }
            EngineEvent::Finished { key, .. } if key == other => break,
            EngineEvent::Accepted { .. }
            | EngineEvent::Progress { .. }
            | EngineEvent::Checked { .. }
            | EngineEvent::Cached(_)
            | EngineEvent::Finished { .. }
            | EngineEvent::Failed { .. }
            | EngineEvent::Cancelled { .. } => {}
        }
    }
    assert!(steps_of_paused <= 2, "{steps_of_paused} steps while paused");
    rig.send(Command::Unpause { key: paused });
    let rest = rig.follow(paused);
    assert_eq!(format!("{text}{}", rest.text), whole.text);
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
    let mut rig = Rig::new(1, 512);
    let key = rig.start(greedy("What is 2+2?"));
    rig.send(Command::Pause { key });
    // Unknown jobs are no fault.
    rig.send(Command::Pause { key: JobKey(99) });
    rig.send(Command::Unpause { key: JobKey(99) });
    assert!(matches!(rig.event(), EngineEvent::Accepted { .. }));
    assert!(rig.is_silent_for(Duration::from_millis(300)));
    rig.send(Command::Unpause { key });
    assert!(rig.follow(key).text.contains('4'));
}
