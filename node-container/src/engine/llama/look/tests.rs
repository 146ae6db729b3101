//! Whose picture goes before a step, and what a picture costs that cannot be decoded.

#[path = "../../../../tests/engine/model.rs"]
mod model;

use std::sync::Mutex;

use gguf_writer::seeded;
use protocol::chat::{Image, LogitBias};
use protocol::{ChatMessage, ChatRequest, Role};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::engine::llama::{LlamaOptions, Spawned, spawn};
use crate::engine::{Command, JobKey};

/// What becomes of the pictures of these jobs, whatever llama.cpp would say.
static PLANTED: Mutex<Vec<(JobKey, DecodeFault)>> = Mutex::new(Vec::new());

/// The fault that a test has planted for a job, if any.
pub(super) fn planted(key: JobKey) -> Result<(), DecodeFault> {
    let planted = PLANTED.lock().expect("no test panics with it");
    let fault = planted.iter().find(|(of, _)| *of == key);
    fault.map_or(Ok(()), |(_, fault)| Err(*fault))
}

fn prompt(number: u64, readable: usize) -> Prompt {
    Prompt {
        place: 0,
        number,
        unread: 500,
        readable,
        share: 0,
    }
}

#[test]
fn a_picture_takes_no_more_than_its_prompt_has_of_the_step() {
    let next = NextPiece::UpTo(100);
    assert_eq!(take(next, 7, 64, &mut [prompt(7, 100)]), 64);
    assert_eq!(take(NextPiece::UpTo(9), 7, 64, &mut [prompt(7, 9)]), 9);
    // The oldest has the step but for what the shortest gets, and among equals that is the oldest too.
    assert_eq!(take(next, 7, 64, &mut [prompt(7, 100), prompt(3, 400)]), 0);
    assert_eq!(take(next, 3, 64, &mut [prompt(7, 400), prompt(3, 100)]), 64);
}

#[test]
fn a_picture_that_cannot_be_cut_waits_until_its_prompt_is_the_oldest() {
    let next = NextPiece::Whole(100);
    assert_eq!(take(next, 7, 64, &mut [prompt(7, 100)]), 100);
    assert_eq!(take(next, 7, 64, &mut [prompt(3, 400), prompt(7, 100)]), 0);
    assert_eq!(
        take(next, 7, 64, &mut [prompt(9, 400), prompt(7, 100)]),
        100
    );
    // Unless it is small, and nobody waits longer for it than for text.
    let mut prompts = [prompt(3, 4), prompt(7, 30)];
    assert_eq!(take(NextPiece::Whole(30), 7, 64, &mut prompts), 30);
}

/// A grey BMP file of one pixel, in base64.
const DOT: &str =
    "Qk06AAAAAAAAADYAAAAoAAAAAQAAAAEAAAABABgAAAAAAAQAAAATCwAAEwsAAAAAAAAAAAAAf39/AA==";

fn request(images: usize, max_tokens: u32) -> ChatRequest {
    let message = ChatMessage {
        role: Role::User,
        content: "Tell me a story.".to_owned(),
        images: vec![
            Image {
                at: 0,
                data: DOT.to_owned()
            };
            images
        ],
        ..ChatMessage::default()
    };
    let mut request = ChatRequest {
        messages: vec![message],
        max_tokens: Some(max_tokens),
        ..ChatRequest::default()
    };
    // It goes on until it is full.
    let ends = [0, 2].map(|token| LogitBias {
        token,
        bias: -100.0,
    });
    request.sampling.logit_bias = ends.to_vec();
    request
}

fn start(key: JobKey, request: ChatRequest) -> Command {
    Command::Start {
        key,
        model: String::new(),
        request: Box::new(request.into()),
        answer: None,
        prefix: None,
    }
}

/// Whether the job has finished, once it has ended. No other one fails before.
fn follow(events: &mut UnboundedReceiver<EngineEvent>, job: JobKey) -> bool {
    loop {
        let event = events.blocking_recv().expect("the engine lives");
        if matches!(event, EngineEvent::Finished { key, .. } if key == job) {
            return true;
        }
        if let EngineEvent::Failed { key, failure } = event {
            assert_eq!((key, failure.code), (job, ErrorCode::EngineFailed));
            return false;
        }
    }
}

#[test]
fn a_picture_that_cannot_be_decoded_costs_its_job_alone_unless_the_cache_is_broken() {
    let weights = seeded::Projector::SMOLLM2
        .write(7)
        .expect("fits")
        .to_bytes();
    let file = std::env::temp_dir().join(format!("heliograph-look-{}.gguf", std::process::id()));
    std::fs::write(&file, weights).expect("writes");
    let (sender, mut events) = unbounded_channel();
    let options = LlamaOptions {
        slots: 3,
        context_tokens: Some(1280),
        projector_file: Some(file.clone()),
        ..LlamaOptions::new(model::model_file())
    };
    let Spawned {
        commands, thread, ..
    } = spawn(options, sender).expect("the model loads");
    std::fs::remove_file(file).expect("is there");
    let send = |command| commands.send(command).expect("the engine listens");
    let [endless, refused, crowded, sound, broken] = [1, 2, 3, 4, 5].map(JobKey);
    PLANTED.lock().expect("ours").extend([
        (refused, DecodeFault::Refused),
        (crowded, DecodeFault::NoRoom),
        (broken, DecodeFault::Broken),
    ]);
    send(start(endless, request(1, 1000)));
    for faulty in [refused, crowded] {
        send(start(faulty, request(2, 3)));
        assert!(!follow(&mut events, faulty));
    }
    // The place is free again, and what another puts there is as ever.
    send(start(sound, request(2, 3)));
    assert!(follow(&mut events, sound));
    send(start(broken, request(2, 3)));
    // It comes first, for it was there before.
    assert!(!follow(&mut events, endless));
    assert!(!follow(&mut events, broken));
    send(start(sound, request(2, 3)));
    assert!(follow(&mut events, sound));
    send(Command::Shutdown);
    thread.join().expect("ends");
}

#[test]
fn pictures_that_can_be_decoded_do_not_hide_that_no_step_can() {
    let weights = seeded::Projector::SMOLLM2
        .write(7)
        .expect("fits")
        .to_bytes();
    let name = format!("heliograph-look-broken-{}", std::process::id());
    let file = std::env::temp_dir().join(format!("{name}.gguf"));
    let fault = std::env::temp_dir().join(name);
    std::fs::write(&file, weights).expect("writes");
    let (sender, mut events) = unbounded_channel();
    let options = LlamaOptions {
        slots: 1,
        context_tokens: Some(1280),
        projector_file: Some(file.clone()),
        // Each prompt begins with its picture, so that a piece of it goes before the first step that fails.
        chat_template: Some("{{ messages[0].content }}".to_owned()),
        break_while: Some(fault.clone()),
        ..LlamaOptions::new(model::model_file())
    };
    let Spawned {
        commands, thread, ..
    } = spawn(options, sender).expect("the model loads");
    std::fs::remove_file(file).expect("is there");
    std::fs::write(&fault, "").expect("writes");
    // No keys of the test above, whose pictures are lost.
    let mut next = (11..=14)
        .map(|key| start(JobKey(key), request(1, 3)))
        .chain([Command::Shutdown]);
    let mut send_next = || next.next().map(|command| commands.send(command));
    assert!(send_next().is_some_and(|sent| sent.is_ok()));
    let mut seen = 0;
    let mut failed = 0;
    while let Some(event) = events.blocking_recv() {
        seen += u32::from(matches!(event, EngineEvent::Progress { .. }));
        if matches!(event, EngineEvent::Failed { .. }) {
            failed += 1;
            // An engine that has ended takes none.
            drop(send_next());
        }
    }
    assert!(seen >= 3, "a picture was decoded for each job");
    assert_eq!(failed, 3, "then it has ended");
    thread.join().expect("ends");
    std::fs::remove_file(fault).expect("is there");
}
