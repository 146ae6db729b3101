//! Hostile bytes: whatever a peer sends is a message or an `Err`, never a panic.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::strategies::{client_to_relay, entry, node_to_relay, relay_to_client, relay_to_node};
use crate::limits::{ENTRIES_MAX, ENTRY_BYTES_MAX, ENTRY_TOKENS_MAX};
use crate::{
    Answer, ClientToRelay, NodeToRelay, RelayToClient, RelayToNode, TokenFrame, TokenFrameWriter,
    Transcript, decode, encode,
};

/// One way to damage a frame.
#[derive(Debug, Clone)]
enum Damage {
    FlipBit(Index, u8),
    Replace(Index, u8),
    Insert(Index, u8),
    Truncate(Index),
    RepeatFrom(Index),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match self {
            Self::FlipBit(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Self::Replace(at, byte) => bytes[at.index(length)] = *byte,
            Self::Insert(at, byte) => bytes.insert(at.index(length), *byte),
            Self::Truncate(at) => bytes.truncate(at.index(length)),
            Self::RepeatFrom(at) => bytes.extend_from_within(at.index(length)..),
        }
    }
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let one = prop_oneof![
        4 => (any::<Index>(), 0_u8..8).prop_map(|(at, bit)| Damage::FlipBit(at, bit)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        1 => any::<Index>().prop_map(Damage::Truncate),
        1 => any::<Index>().prop_map(Damage::RepeatFrom),
    ];
    vec(one, 1..6)
}

fn any_control_frame() -> impl Strategy<Value = String> {
    prop_oneof![
        client_to_relay().prop_map(|m| encode(&m)),
        relay_to_client().prop_map(|m| encode(&m)),
        node_to_relay().prop_map(|m| encode(&m)),
        relay_to_node().prop_map(|m| encode(&m)),
    ]
}

/// Reads the text as each of the four directions, and checks what came out as the relay would.
fn read_as_everything(text: &str) {
    match decode(text, usize::MAX) {
        Ok(ClientToRelay::Submit { request, .. }) => drop(request.validate()),
        Ok(ClientToRelay::Resume {
            request, answer, ..
        }) => {
            drop(request.validate());
            read_answer(answer);
        }
        _ => (),
    }
    if let Ok(message) = decode::<NodeToRelay>(text, usize::MAX) {
        let _valid = message.validate().is_ok();
    }
    if let Ok(RelayToNode::Assign {
        request, answer, ..
    }) = decode(text, usize::MAX)
    {
        drop(request.validate());
        read_answer(answer);
    }
    if let Ok(RelayToClient::Failed { failure, .. }) = decode(text, usize::MAX) {
        drop(failure.bounded());
    }
}

/// A carried answer is recorded whole or not at all.
fn read_answer(answer: Option<Answer>) {
    let Some(answer) = answer else { return };
    let recorded = Transcript::of(&answer);
    assert_eq!(recorded.is_some(), answer.validate().is_ok());
    if let Some(record) = recorded {
        assert_eq!(usize::try_from(record.offset()), Ok(answer.bytes()));
        assert_eq!(
            usize::try_from(record.token_count()),
            Ok(answer.token_count())
        );
    }
}

/// A frame that decodes keeps its promises: entries within their limits that add up to the frame.
fn read_frame(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(frame) = TokenFrame::decode(bytes) else {
        return Ok(());
    };
    let mut writer = TokenFrameWriter::new();
    let mut count = 0;
    for entry in frame.entries() {
        count += 1;
        prop_assert!(entry.bytes.len() <= ENTRY_BYTES_MAX);
        prop_assert!(entry.tokens().count() <= ENTRY_TOKENS_MAX);
        let end = u64::from(entry.offset) + entry.bytes.len() as u64;
        prop_assert_eq!(
            entry.end_offset().map(u64::from),
            u32::try_from(end).ok().map(u64::from)
        );
        prop_assert!(writer.push_raw(&entry));
    }
    prop_assert!(count <= ENTRIES_MAX);
    prop_assert_eq!(writer.finish(), bytes);
    Ok(())
}

proptest! {
    #[test]
    fn damaged_control_frames_never_panic(text in any_control_frame(), damage in damage()) {
        let mut bytes = text.into_bytes();
        for one in &damage {
            one.apply(&mut bytes);
        }
        read_as_everything(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn random_text_never_panics(text in any::<String>()) {
        read_as_everything(&text);
    }

    #[test]
    fn damaged_token_frames_never_panic(entries in vec(entry(), 0..6), damage in damage()) {
        let mut writer = TokenFrameWriter::new();
        for e in &entries {
            prop_assert!(writer.push(e.alias, e.offset, e.kind, &e.tokens, &e.bytes));
        }
        let mut bytes = writer.finish();
        for one in &damage {
            one.apply(&mut bytes);
        }
        read_frame(&bytes)?;
    }

    #[test]
    fn random_bytes_never_panic_as_a_token_frame(body in vec(any::<u8>(), 0..80)) {
        read_frame(&body)?;
        // With a believable beginning the bytes get further into the decoder.
        let believable = [&[1, 1, body.len().to_le_bytes()[0] % 4, 0], &body[..]].concat();
        read_frame(&believable)?;
    }
}

#[test]
fn deep_nesting_is_refused_before_the_stack_ends() {
    let deep = format!(
        r#"{{"type":"submit","x":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    read_as_everything(&deep);
    assert!(decode::<ClientToRelay>(&deep, usize::MAX).is_err());
}
