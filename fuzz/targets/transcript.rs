//! The record of token frames, resent from any point: a reader ends up with the same answer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{TokenFrame, Transcript};

fuzz_target!(|input: (u32, u32, &[u8])| {
    let (offset, tokens, bytes) = input;
    let Ok(frame) = TokenFrame::decode(bytes) else {
        return;
    };
    let mut record = Transcript::default();
    for entry in frame.entries() {
        record.push_entry(&entry);
    }
    // What a reader has who stopped at these two points, which need not belong together.
    let (mut had, mut had_tokens) = (Vec::new(), Vec::new());
    for entry in frame.entries() {
        had.extend_from_slice(entry.bytes);
        had_tokens.extend(entry.tokens());
    }
    let (all, all_tokens) = (had.clone(), had_tokens.clone());
    assert_eq!(usize::try_from(record.offset()), Ok(all.len()));
    assert_eq!(usize::try_from(record.token_count()), Ok(all_tokens.len()));
    let offset = offset.checked_rem(record.offset() + 1).unwrap_or_default();
    let tokens = tokens
        .checked_rem(record.token_count() + 1)
        .unwrap_or_default();
    had.truncate(usize::try_from(offset).expect("32 bits fit"));
    had_tokens.truncate(usize::try_from(tokens).expect("32 bits fit"));
    let prefix = record.hash(offset);
    for (_, bytes, tokens) in record.runs_from(offset, tokens) {
        had.extend_from_slice(bytes);
        had_tokens.extend_from_slice(tokens);
    }
    if record.is_whole() {
        assert_eq!((had, had_tokens), (all, all_tokens));
        assert!(prefix.is_some());
    }
    if let Some(answer) = record.answer(None) {
        let again = Transcript::of(&answer).expect("what is carried is within the limits");
        assert_eq!(again.hash(again.offset()), record.hash(record.offset()));
    }
});
