//! Pictures among decode steps: how much of them goes before one, and whose.

use std::collections::BTreeMap;

use gguf_writer::seeded::Projector;
use node_container::engine::llama::LlamaOptions;
use node_container::engine::{Command, EngineEvent, JobKey};
use protocol::ChatRequest;

use super::{BLUE, RED, SEED, SHAPE, about, file, options, png};
use crate::endless;
use crate::harness::{Rig, greedy};

/// More tokens of a picture than a step reads beside answers.
const LARGE: Projector = Projector {
    image_side: 112,
    ..SHAPE
};

/// Reads 64 tokens of prompts per step, and 16 beside answers.
fn slow(slots: u32) -> Rig {
    let weights = LARGE.write(SEED).expect("fits");
    let rig = Rig::with(LlamaOptions {
        projector_file: Some(file("large-projector.gguf", &weights.to_bytes())),
        prompt_batch: Some(64),
        ..options(slots, 1024)
    });
    assert_eq!(rig.loaded.tuned.prompt_batch.beside, 16);
    rig
}

/// A question about so many pictures; one token is the answer.
fn asking(pictures: usize) -> ChatRequest {
    let images: Vec<String> = [RED, BLUE]
        .iter()
        .cycle()
        .take(pictures)
        .map(|colour| png(*colour))
        .collect();
    about(&images, "What is this?")
}

/// Waits until the rig has read a request.
fn accepted(rig: &mut Rig, job: JobKey) {
    while !matches!(rig.event(), EngineEvent::Accepted { key, .. } if key == job) {}
}

#[test]
fn a_picture_is_a_part_of_what_a_step_reads_beside_answers() {
    let mut rig = slow(3);
    let running = rig.start(ChatRequest {
        max_tokens: Some(900),
        ..endless("Tell me a long story.")
    });
    while !matches!(rig.event(), EngineEvent::Step(_)) {}
    let seeing = rig.start(asking(3));
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(30);
    let reading = rig.start(ChatRequest {
        max_tokens: Some(1),
        ..greedy(&text)
    });
    let mut read: BTreeMap<JobKey, u32> = BTreeMap::new();
    let (mut steps, mut this_step, mut left) = (Vec::new(), 0, 2);
    while left > 0 {
        match rig.event() {
            EngineEvent::Progress {
                key,
                prefilled_tokens,
            } => {
                let before = read.insert(key, prefilled_tokens).unwrap_or(0);
                this_step += prefilled_tokens - before;
            }
            EngineEvent::Step(_) => steps.push(std::mem::take(&mut this_step)),
            EngineEvent::Finished { key, .. } if key != running => left -= 1,
            EngineEvent::Failed { failure, .. } => panic!("{failure}"),
            EngineEvent::Accepted { .. }
            | EngineEvent::Checked { .. }
            | EngineEvent::Cached(_)
            | EngineEvent::Finished { .. }
            | EngineEvent::Cancelled { .. } => {}
        }
    }
    assert!(
        read[&seeing] > 3 * LARGE.tokens() && read[&reading] > 200,
        "{read:?}"
    );
    assert!(steps.iter().all(|tokens| *tokens <= 16), "{steps:?}");
    rig.send(Command::Stop { key: running });
}

#[test]
fn the_oldest_prompt_that_has_come_to_a_picture_gets_on() {
    let mut rig = slow(2);
    let first = rig.start(endless("Tell me a long story."));
    accepted(&mut rig, first);
    let older = rig.start(asking(8));
    rig.send(Command::Pause { key: older });
    accepted(&mut rig, older);
    // The younger one gets the first slot.
    rig.send(Command::Stop { key: first });
    let younger = rig.start(asking(8));
    rig.send(Command::Pause { key: younger });
    accepted(&mut rig, younger);
    for key in [older, younger] {
        rig.send(Command::Unpause { key });
    }
    let mut finished = Vec::new();
    while finished.len() < 2 {
        if let EngineEvent::Finished { key, .. } = rig.event() {
            finished.push(key);
        }
    }
    assert_eq!(finished, [older, younger]);
}
