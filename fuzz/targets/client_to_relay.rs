//! Control frames from a client, and the checks on a request.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::limits::CLIENT_FRAME_BYTES_MAX;
use protocol::{ClientToRelay, decode, encode};

fuzz_target!(|text: &str| {
    let Ok(message) = decode::<ClientToRelay>(text, CLIENT_FRAME_BYTES_MAX) else {
        return;
    };
    if let ClientToRelay::Submit { request, .. } = &message {
        let _checked = request.validate();
    }
    // What was read can be written and read again; comparing texts, since a NaN would not equal itself.
    let written = encode(&message);
    let again: ClientToRelay = decode(&written, usize::MAX).expect("what we wrote, we read");
    assert_eq!(encode(&again), written);
});
