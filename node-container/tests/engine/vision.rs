//! Pictures, end to end through `mtmd`: on small seeded weights, not a trained model. What such a model says of a picture
//! means nothing; that it says something else of another, and what is computed on the way, can be checked all the same.

mod limits;
mod reference;
mod steps;

use std::io::Cursor;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gguf_writer::seeded::Projector;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use node_container::engine::image::decode;
use node_container::engine::llama::{LlamaOptions, LoadError, look_at, spawn};
use node_container::engine::vision::VisionError;
use node_container::engine::{Command, EngineEvent};
use protocol::chat::Image;
use protocol::{ChatRequest, ErrorCode};
use tokio::sync::mpsc::unbounded_channel;

use crate::continuing::first;
use crate::harness::{Ending, Rig, Told, greedy};
use crate::model::model_file;

const SHAPE: Projector = Projector::SMOLLM2;
const SEED: u64 = 7;

/// A file with these bytes, for tests that need one on a disk.
pub(crate) fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    // Tests run at once; a file is seen whole or not at all.
    let part = path.with_extension(format!("{:?}", std::thread::current().id()));
    std::fs::write(&part, bytes).expect("writes");
    std::fs::rename(part, &path).expect("renames");
    path
}

fn projector_file() -> PathBuf {
    let weights = SHAPE.write(SEED).expect("fits");
    file("seeded-projector.gguf", &weights.to_bytes())
}

fn options(slots: u32, context_tokens: u32) -> LlamaOptions {
    LlamaOptions {
        slots,
        context_tokens: Some(context_tokens),
        projector_file: Some(projector_file()),
        ..LlamaOptions::new(model_file())
    }
}

fn seeing() -> Rig {
    Rig::with(options(2, 512))
}

/// A picture of the projector's size, so that it is not scaled on the way.
fn stripes(colour: [u8; 3]) -> RgbImage {
    RgbImage::from_fn(SHAPE.image_side, SHAPE.image_side, |x, y| {
        if (x / 5 + y / 9) % 2 == 0 {
            Rgb(colour)
        } else {
            Rgb([x * 4, y * 4, 90].map(|colour| u8::try_from(colour).expect("small")))
        }
    })
}

fn encoded(image: &RgbImage, format: ImageFormat) -> String {
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::from(image.clone())
        .write_to(&mut bytes, format)
        .expect("writes");
    STANDARD.encode(bytes.into_inner())
}

fn png(colour: [u8; 3]) -> String {
    encoded(&stripes(colour), ImageFormat::Png)
}

/// A question with pictures before it.
fn about(images: &[String], question: &str) -> ChatRequest {
    let mut request = greedy(question);
    request.messages[0].images = images
        .iter()
        .map(|data| Image {
            at: 0,
            data: data.clone(),
        })
        .collect();
    request.max_tokens = Some(1);
    request.top_logprobs = Some(20);
    request
}

fn prompt_tokens(told: &Told) -> u32 {
    told.finished().1.prompt_tokens
}

const RED: [u8; 3] = [220, 20, 30];
const BLUE: [u8; 3] = [10, 30, 240];

#[test]
fn a_picture_becomes_the_embeddings_that_a_plain_implementation_computes() {
    let picture = decode(&png(RED)).expect("readable");
    let pieces = look_at(&options(1, 128), &picture)
        .expect("loads")
        .expect("seen");
    assert_eq!(pieces.len(), 1);
    let weights = SHAPE.write(SEED).expect("fits");
    let wanted = reference::encode(&SHAPE, &weights, stripes(RED).as_raw());
    let other = reference::encode(&SHAPE, &weights, stripes(BLUE).as_raw());
    let is = &pieces[0];
    assert_eq!(is.len(), wanted.len());
    assert_eq!(is.len(), (SHAPE.tokens() * SHAPE.text_width) as usize);
    let length = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    let distance = |wanted: &[f64]| {
        let differences = is
            .iter()
            .zip(wanted)
            .map(|(is, wanted)| f64::from(*is) - wanted);
        length(&differences.collect::<Vec<f64>>()) / length(wanted)
    };
    // Some kernels hold numbers of 16 bits on the way, which have three digits.
    assert!(distance(&wanted) < 5e-3, "{}", distance(&wanted));
    assert!(distance(&other) > 5e-2, "{}", distance(&other));
}

#[test]
fn another_picture_changes_what_comes_next_and_the_same_one_does_not() {
    let mut rig = seeing();
    assert!(rig.loaded.has_vision);
    let mut see = |data: String| rig.ask(about(&[data], "What is this?")).logprobs;
    let red = see(png(RED));
    assert_eq!(red.len(), 1, "one token, with its alternatives");
    assert_eq!(red, see(png(RED)));
    // Other bytes with the same pixels are looked at anew.
    assert_eq!(red, see(encoded(&stripes(RED), ImageFormat::Bmp)));
    assert_ne!(red, see(png(BLUE)));
}

#[test]
fn the_order_of_pictures_matters() {
    let mut rig = seeing();
    let mut see = |data: &[String]| rig.ask(about(data, "Which is first?")).logprobs;
    let there = see(&[png(RED), png(BLUE)]);
    assert_ne!(there, see(&[png(BLUE), png(RED)]));
}

#[test]
fn tokens_of_pictures_count_in_usage_and_in_the_context() {
    let mut rig = seeing();
    let mut count = |images: &[String]| {
        let told = rig.ask(about(images, "What is this?"));
        prompt_tokens(&told)
    };
    let none = count(&[]);
    let one = count(&[png(RED)]);
    let two = count(&[png(RED), png(BLUE)]);
    assert_eq!(two - one, SHAPE.tokens());
    assert!(one >= none + SHAPE.tokens(), "{none} {one}");
    let mut narrow = Rig::with(options(1, two));
    let failed = narrow.ask(about(&[png(RED), png(BLUE)], "What is this?"));
    let failure = failed.failed();
    assert_eq!(failure.code, ErrorCode::ContextLengthExceeded);
    assert!(failure.message.contains(&two.to_string()), "{failure}");
}

#[test]
fn a_picture_may_stand_in_the_middle_of_a_later_turn() {
    let mut rig = seeing();
    let mut request = greedy("Hello. I will show you something.");
    let mut later = greedy("Look: . What is it?").messages;
    later[0].images.push(Image {
        at: 6,
        data: png(RED),
    });
    request.messages.extend(later);
    request.max_tokens = Some(8);
    assert_eq!(rig.ask(request).tokens.len(), 8);
}

#[test]
fn an_answer_about_a_picture_goes_on_at_the_same_byte() {
    let mut rig = seeing();
    let mut request = about(&[png(RED)], "Describe this.");
    request.top_logprobs = None;
    request.max_tokens = Some(24);
    let whole = rig.ask(request.clone());
    let given = first(&whole, 10);
    let begun: String = given
        .iter()
        .flat_map(|answer| &answer.pieces)
        .map(|piece| piece.text.as_str())
        .collect();
    assert!(!begun.is_empty() && begun.len() < whole.text.len());
    let rest = rig.go_on(&request, given);
    assert_eq!(begun + &rest.text, whole.text);
    assert_eq!(prompt_tokens(&rest), prompt_tokens(&whole));
}

#[test]
fn pictures_and_running_answers_go_on_side_by_side() {
    let mut rig = seeing();
    let mut endless = greedy("Tell me a long story.");
    endless.max_tokens = Some(400);
    let running = rig.start(endless);
    while !matches!(rig.event(), EngineEvent::Step(_)) {}
    let told = rig.ask(about(&[png(RED), png(BLUE)], "What is this?"));
    assert_eq!(told.logprobs.len(), 1);
    rig.send(Command::Stop { key: running });
    assert!(matches!(rig.follow(running).ending, Ending::Cancelled(_)));
}

#[test]
fn pictures_of_strangers_are_refused_by_number_and_the_engine_goes_on() {
    let mut rig = seeing();
    let good = STANDARD.decode(png(RED)).expect("ours");
    let bomb = {
        let mut bomb = good.clone();
        // The size in the header, without its checksum: huge, and damaged.
        bomb[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
        bomb
    };
    for bad in [
        bomb,
        good[..good.len() / 2].to_vec(),
        b"GIF89a\0\0\0\0\0\0\0".to_vec(),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(),
    ] {
        let told = rig.ask(about(&[png(RED), STANDARD.encode(bad)], "What is this?"));
        let failure = told.failed();
        assert_eq!(failure.code, ErrorCode::InvalidRequest);
        assert_eq!(failure.param.as_deref(), Some("messages"));
        assert!(failure.message.contains("image 2 "), "{failure}");
    }
    let link = "https://example.com/cat.png".to_owned();
    assert!(
        rig.ask(about(&[link], "?"))
            .failed()
            .message
            .contains("base64")
    );
    assert_eq!(rig.ask(about(&[png(RED)], "?")).logprobs.len(), 1);
}

#[test]
fn text_that_spells_a_marker_is_text() {
    let mut rig = seeing();
    let mut blind = Rig::new(1, 512);
    for text in ["<__media__>", "<image>", "\u{fdd1}0\u{fdd1}", "\u{fdd1}"] {
        let mut request = about(&[], text);
        assert_eq!(
            prompt_tokens(&rig.ask(request.clone())),
            prompt_tokens(&blind.ask(request.clone())),
            "{text}"
        );
        request.messages[0].images.push(Image {
            at: 0,
            data: png(RED),
        });
        let told = rig.ask(request);
        assert_eq!(told.logprobs.len(), 1, "{text}");
    }
}

#[test]
fn a_model_without_a_projector_refuses_pictures() {
    let mut rig = Rig::new(1, 512);
    assert!(!rig.loaded.has_vision);
    let told = rig.ask(about(&[png(RED)], "What is this?"));
    assert_eq!(told.failed().code, ErrorCode::CapabilityMissing);
}

#[test]
fn what_is_no_projector_of_this_model_is_refused_at_start() {
    let refusal = |path: PathBuf| {
        let (events, _listener) = unbounded_channel();
        let options = LlamaOptions {
            projector_file: Some(path),
            ..options(1, 128)
        };
        spawn(options, events).err()
    };
    let narrow = Projector {
        text_width: 64,
        ..SHAPE
    };
    let narrow = narrow.write(SEED).expect("fits").to_bytes();
    for path in [file("narrow-projector.gguf", &narrow), model_file()] {
        let refused = refusal(path);
        assert!(
            matches!(refused, Some(LoadError::Vision(VisionError::Unusable(_)))),
            "{refused:?}"
        );
    }
    let text = file("no-projector.gguf", b"something else");
    assert!(matches!(refusal(text), Some(LoadError::NotGguf(_))));
    let missing = PathBuf::from("/nowhere/projector.gguf");
    assert!(matches!(
        refusal(missing),
        Some(LoadError::Unreadable { .. })
    ));
}
