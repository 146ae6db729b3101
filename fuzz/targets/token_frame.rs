//! Token frames: what decodes is rebuilt byte by byte, by both ways of writing an entry.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{TokenFrame, TokenFrameWriter};

fuzz_target!(|bytes: &[u8]| {
    let Ok(frame) = TokenFrame::decode(bytes) else {
        return;
    };
    let mut forwarded = TokenFrameWriter::new();
    let mut rewritten = TokenFrameWriter::new();
    for entry in frame.entries() {
        assert!(forwarded.push_raw(&entry));
        let tokens: Vec<u32> = entry.tokens().collect();
        assert_eq!(u32::try_from(tokens.len()), Ok(entry.token_count()));
        assert!(rewritten.push(entry.alias, entry.offset, entry.kind, &tokens, entry.bytes));
        let _end = entry.end_offset();
    }
    assert_eq!(forwarded.finish(), bytes);
    assert_eq!(rewritten.finish(), bytes);
});
