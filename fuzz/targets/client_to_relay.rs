//! Control frames from a client, and the checks on a request and on an answer that is carried back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::limits::CLIENT_FRAME_BYTES_MAX;
use protocol::{ClientToRelay, Transcript, decode, encode};

fuzz_target!(|text: &str| {
    let Ok(message) = decode::<ClientToRelay>(text, CLIENT_FRAME_BYTES_MAX) else {
        return;
    };
    if let ClientToRelay::Submit { request, .. } | ClientToRelay::Resume { request, .. } = &message
    {
        let _checked = request.validate();
    }
    if let ClientToRelay::Resume {
        answer: Some(answer),
        offset,
        ..
    } = &message
    {
        let record = Transcript::of(answer);
        assert_eq!(record.is_some(), answer.validate().is_ok());
        let _hash = record.and_then(|record| record.hash(*offset));
    }
    // What was read can be written and read again; comparing texts, since a NaN would not equal itself.
    let written = encode(&message);
    let again: ClientToRelay = decode(&written, usize::MAX).expect("what we wrote, we read");
    assert_eq!(encode(&again), written);
});
