//! Token frames at their edges: every refusal of the decoder, and a writer that refuses and goes on.

use crate::limits::{ENTRIES_MAX, ENTRY_BYTES_MAX, ENTRY_TOKENS_MAX, TOKEN_FRAME_BYTES_MAX};
use crate::{DeltaKind, FrameError, TokenFrame, TokenFrameWriter};

const HEADER: [u8; 4] = [1, 1, 1, 0];
/// Alias 7, offset 0, text, one token id, three bytes.
const ENTRY: [u8; 23] = [
    7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 3, 0, 0, 0, 0xd6, 0x12, 0, 0, b'R', b'e', b'd',
];

fn frame() -> Vec<u8> {
    [&HEADER[..], &ENTRY[..]].concat()
}

fn refusal(bytes: &[u8]) -> Option<FrameError> {
    TokenFrame::decode(bytes).err()
}

/// The frame with one byte changed.
fn with(at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = frame();
    bytes[at] = byte;
    bytes
}

#[test]
fn every_cut_of_a_frame_is_truncated() {
    let whole = frame();
    assert_eq!(refusal(&whole), None);
    for cut in 0..whole.len() {
        assert_eq!(
            refusal(&whole[..cut]),
            Some(FrameError::Truncated),
            "cut at {cut}"
        );
    }
}

#[test]
fn another_kind_or_version_of_frame_is_refused() {
    for (at, byte) in [(0, 0), (0, 2), (1, 0), (1, 2)] {
        assert_eq!(refusal(&with(at, byte)), Some(FrameError::UnknownKind));
    }
}

#[test]
fn bytes_after_the_last_entry_are_refused() {
    let mut bytes = frame();
    bytes.push(0);
    assert_eq!(refusal(&bytes), Some(FrameError::Trailing));
    assert_eq!(refusal(&with(2, 0)), Some(FrameError::Trailing));
}

#[test]
fn a_reserved_byte_that_is_not_zero_is_refused() {
    assert_eq!(refusal(&with(4 + 9, 1)), Some(FrameError::OverLimit));
}

#[test]
fn a_count_over_its_limit_is_refused_before_its_bytes_are_looked_for() {
    let entries = u16::try_from(ENTRIES_MAX + 1).unwrap().to_le_bytes();
    assert_eq!(
        refusal(&[1, 1, entries[0], entries[1]]),
        Some(FrameError::OverLimit)
    );

    let tokens = u16::try_from(ENTRY_TOKENS_MAX + 1).unwrap().to_le_bytes();
    let mut bytes = frame();
    bytes[14..16].copy_from_slice(&tokens);
    assert_eq!(refusal(&bytes), Some(FrameError::OverLimit));

    let length = u32::try_from(ENTRY_BYTES_MAX + 1).unwrap().to_le_bytes();
    let mut bytes = frame();
    bytes[16..20].copy_from_slice(&length);
    assert_eq!(refusal(&bytes), Some(FrameError::OverLimit));
}

#[test]
fn an_offset_that_would_overflow_has_no_end() {
    let mut bytes = frame();
    bytes[8..12].copy_from_slice(&(u32::MAX - 2).to_le_bytes());
    let entry = TokenFrame::decode(&bytes)
        .unwrap()
        .entries()
        .next()
        .unwrap();
    assert_eq!(entry.end_offset(), None);
    bytes[8..12].copy_from_slice(&(u32::MAX - 3).to_le_bytes());
    let entry = TokenFrame::decode(&bytes)
        .unwrap()
        .entries()
        .next()
        .unwrap();
    assert_eq!(entry.end_offset(), Some(u32::MAX));
}

#[test]
fn a_writer_that_refused_an_entry_stays_usable() {
    let mut writer = TokenFrameWriter::new();
    assert!(writer.is_empty());
    let tokens = vec![0; ENTRY_TOKENS_MAX + 1];
    let bytes = vec![0; ENTRY_BYTES_MAX + 1];
    assert!(!writer.push(7, 0, DeltaKind::Text, &tokens, b"Red"));
    assert!(!writer.push(7, 0, DeltaKind::Text, &[4_822], &bytes));
    assert!(writer.is_empty(), "a refused entry leaves nothing behind");
    assert!(writer.push(7, 0, DeltaKind::Text, &[4_822], b"Red"));
    assert!(!writer.is_empty());
    assert_eq!(writer.finish(), frame());
    assert!(writer.is_empty(), "a finished writer begins anew");
    assert_eq!(writer.finish(), [1, 1, 0, 0]);
}

#[test]
fn a_full_frame_takes_no_more_and_decodes() {
    let mut writer = TokenFrameWriter::new();
    let bytes = vec![b'x'; ENTRY_BYTES_MAX];
    let mut pushed = 0;
    while writer.push(7, 0, DeltaKind::Text, &[], &bytes) {
        pushed += 1;
    }
    assert_eq!(
        pushed, 3,
        "four entries of 256 KiB and their headers are over 1 MiB"
    );
    // What is left can still be filled to the last byte.
    let left = TOKEN_FRAME_BYTES_MAX - 4 - pushed * (16 + ENTRY_BYTES_MAX) - 16;
    assert!(!writer.push(7, 0, DeltaKind::Text, &[], &bytes[..=left]));
    assert!(writer.push(7, 0, DeltaKind::Text, &[], &bytes[..left]));
    let full = writer.finish();
    assert_eq!(full.len(), TOKEN_FRAME_BYTES_MAX);
    assert_eq!(TokenFrame::decode(&full).unwrap().entries().count(), 4);
}

#[test]
fn a_frame_has_a_limit_of_entries_for_both_ways_of_writing() {
    let source = frame();
    let entry = TokenFrame::decode(&source)
        .unwrap()
        .entries()
        .next()
        .unwrap();
    let mut writer = TokenFrameWriter::new();
    for _ in 0..ENTRIES_MAX {
        assert!(writer.push_raw(&entry));
    }
    assert!(!writer.push_raw(&entry));
    assert!(!writer.push(7, 0, DeltaKind::Text, &[], b""));
    let full = writer.finish();
    assert_eq!(
        TokenFrame::decode(&full).unwrap().entries().count(),
        ENTRIES_MAX
    );
}
