//! Control frames from the relay, as a client reads them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::limits::RELAY_FRAME_BYTES_MAX;
use protocol::{RelayToClient, decode, encode};

fuzz_target!(|text: &str| {
    let Ok(message) = decode::<RelayToClient>(text, RELAY_FRAME_BYTES_MAX) else {
        return;
    };
    // What was read can be written and read again; comparing texts, since a NaN would not equal itself.
    let written = encode(&message);
    let again: RelayToClient = decode(&written, usize::MAX).expect("what we wrote, we read");
    assert_eq!(encode(&again), written);
});
