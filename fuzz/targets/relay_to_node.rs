//! Control frames from the relay, as a node reads them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::limits::RELAY_FRAME_BYTES_MAX;
use protocol::{RelayToNode, Transcript, decode, encode};

fuzz_target!(|text: &str| {
    let Ok(message) = decode::<RelayToNode>(text, RELAY_FRAME_BYTES_MAX) else {
        return;
    };
    if let RelayToNode::Assign {
        answer: Some(answer),
        ..
    } = &message
    {
        assert_eq!(Transcript::of(answer).is_some(), answer.validate().is_ok());
    }
    // What was read can be written and read again; comparing texts, since a NaN would not equal itself.
    let written = encode(&message);
    let again: RelayToNode = decode(&written, usize::MAX).expect("what we wrote, we read");
    assert_eq!(encode(&again), written);
});
