//! Control frames from a node, and the checks on its `hello` and `announce`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::limits::NODE_FRAME_BYTES_MAX;
use protocol::{NodeToRelay, decode, encode};

fuzz_target!(|text: &str| {
    let Ok(message) = decode::<NodeToRelay>(text, NODE_FRAME_BYTES_MAX) else {
        return;
    };
    let _checked = message.validate();
    // What was read can be written and read again; comparing texts, since a NaN would not equal itself.
    let written = encode(&message);
    let again: NodeToRelay = decode(&written, usize::MAX).expect("what we wrote, we read");
    assert_eq!(encode(&again), written);
});
