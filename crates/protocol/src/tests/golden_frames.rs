//! Golden token frames: hexadecimal bytes with a comment per field.

use std::fs;

use super::golden::folder;
use crate::{DeltaKind, TokenFrame, TokenFrameWriter};

/// Reads a `.hex` fixture: what follows a `#` is a comment, spaces are for the eye.
fn bytes_of(name: &str) -> Vec<u8> {
    let text = fs::read_to_string(folder().join(name)).unwrap();
    let digits: String = text
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(str::chars)
        .filter(|c| !c.is_whitespace())
        .collect();
    hex::decode(digits).unwrap()
}

type Case<'a> = (u32, u32, DeltaKind, &'a [u32], &'a [u8]);

fn check(name: &str, cases: &[Case<'_>]) {
    let golden = bytes_of(name);
    let frame = TokenFrame::decode(&golden).unwrap();
    let entries: Vec<_> = frame.entries().collect();
    assert_eq!(entries.len(), cases.len(), "{name}");
    let mut writer = TokenFrameWriter::new();
    for (entry, (alias, offset, kind, tokens, bytes)) in entries.iter().zip(cases) {
        assert_eq!(entry.alias, *alias, "{name}");
        assert_eq!(entry.offset, *offset, "{name}");
        assert_eq!(entry.kind, *kind, "{name}");
        assert_eq!(entry.tokens().collect::<Vec<_>>(), *tokens, "{name}");
        assert_eq!(entry.bytes, *bytes, "{name}");
        assert!(writer.push(*alias, *offset, *kind, tokens, bytes));
    }
    assert_eq!(writer.finish(), golden, "{name}");
}

#[test]
fn a_frame_of_one_text_delta_reads_as_written() {
    check(
        "token-frame.text.hex",
        &[(7, 0, DeltaKind::Text, &[4_822], b"Red")],
    );
}

#[test]
fn a_decode_step_of_two_jobs_is_one_frame() {
    check(
        "token-frame.two-jobs.hex",
        &[
            (7, 3, DeltaKind::Text, &[28, 4_561], b", blue"),
            // Half a character is held back: its tokens come with the bytes that complete it.
            (8, 258, DeltaKind::Text, &[193, 116, 130], "ö".as_bytes()),
        ],
    );
}

#[test]
fn every_kind_of_delta_has_its_number() {
    check(
        "token-frame.every-kind.hex",
        &[
            (1, 0, DeltaKind::Reasoning, &[9], b"hm"),
            (1, 2, DeltaKind::Text, &[10], b"ok"),
            (1, 4, DeltaKind::Logprobs, &[], b"[]"),
            (1, 6, DeltaKind::ToolCall, &[11], b"{}"),
            (0xffff_ffff, 8, DeltaKind::Unknown(9), &[], b"?"),
        ],
    );
}

#[test]
fn an_empty_frame_is_four_bytes() {
    check("token-frame.empty.hex", &[]);
}
