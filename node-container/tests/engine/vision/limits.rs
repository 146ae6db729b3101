//! What is said of pictures by their headers alone. Behind its header every file here breaks off, so whoever unpacked one
//! would call it damaged.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use node_container::engine::image::{PIXELS_MAX, REQUEST_PIXELS_MAX};
use node_container::engine::{Command, EngineEvent};
use protocol::{ChatRequest, ErrorCode, Failure};

use super::{RED, SHAPE, about, options, png, prompt_tokens, seeing};
use crate::harness::Rig;

/// The header of a BMP file with a square of so many pixels a side, and nothing behind it.
fn header(side: u32) -> String {
    let mut file = b"BM".to_vec();
    for field in [54 + side * side * 3, 0, 54, 40, side, side] {
        file.extend(field.to_le_bytes());
    }
    // One plane of 24 bits per pixel, not compressed; the rest may be nothing.
    file.extend([1, 0, 24, 0]);
    file.extend([0; 24]);
    STANDARD.encode(file)
}

fn check(rig: &mut Rig, request: ChatRequest) -> Option<Failure> {
    rig.send(Command::Check {
        check: 3,
        request: Box::new(request.into()),
    });
    loop {
        if let EngineEvent::Checked { check: 3, failure } = rig.event() {
            return failure;
        }
    }
}

#[test]
fn pictures_with_too_many_pixels_together_are_refused_before_any_is_unpacked() {
    let mut rig = seeing();
    let side = 4500;
    let pixels = u64::from(side * side);
    assert!(pixels <= PIXELS_MAX && pixels * 3 > REQUEST_PIXELS_MAX);
    let many = about(&vec![header(side); 3], "What is this?");
    let told = rig.ask(many.clone());
    for failure in [
        told.failed().clone(),
        check(&mut rig, many).expect("too many"),
    ] {
        assert_eq!(failure.code, ErrorCode::InvalidRequest);
        for number in [pixels * 3, REQUEST_PIXELS_MAX] {
            assert!(failure.message.contains(&number.to_string()), "{failure}");
        }
    }
}

#[test]
fn pictures_that_do_not_fit_the_context_are_not_unpacked() {
    let mut rig = Rig::with(options(1, 96));
    let side = SHAPE.image_side;
    let one = rig.ask(about(&[png(RED)], "What is this?"));
    let whole = prompt_tokens(&one) + 5 * SHAPE.tokens();
    let many = about(&vec![header(side); 6], "What is this?");
    let told = rig.ask(many.clone());
    for failure in [
        told.failed().clone(),
        check(&mut rig, many).expect("too long"),
    ] {
        assert_eq!(failure.code, ErrorCode::ContextLengthExceeded, "{failure}");
        for number in [whole, 96] {
            assert!(
                failure.message.contains(&format!(" {number} tokens")),
                "{failure}"
            );
        }
    }
}

#[test]
fn whether_a_picture_fits_is_found_out_without_unpacking_it() {
    let mut rig = seeing();
    for side in [1, SHAPE.image_side, 1000] {
        let request = about(&[header(side)], "What is this?");
        assert_eq!(check(&mut rig, request.clone()), None);
        // Whoever wants an answer learns that it is damaged.
        let told = rig.ask(request);
        assert_eq!(told.failed().code, ErrorCode::InvalidRequest);
        assert!(
            told.failed().message.contains("damaged"),
            "{:?}",
            told.ending
        );
    }
    let failure = check(&mut rig, about(&["?".to_owned()], "What is this?"));
    assert_eq!(
        failure.map(|failure| failure.code),
        Some(ErrorCode::InvalidRequest)
    );
}
