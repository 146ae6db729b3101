//! What is written is read back as it was: every message of every direction, and token frames.

use std::fmt::Debug;

use proptest::collection::vec;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::strategies::{client_to_relay, entry, node_to_relay, relay_to_client, relay_to_node};
use crate::{TokenFrame, TokenFrameWriter, decode, encode};

fn survives<T>(message: &T) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let text = encode(message);
    let again = decode::<T>(&text, usize::MAX);
    prop_assert_eq!(again.as_ref(), Ok(message), "{}", text);
    Ok(())
}

proptest! {
    #[test]
    fn messages_of_a_client_survive(message in client_to_relay()) {
        survives(&message)?;
    }

    #[test]
    fn messages_to_a_client_survive(message in relay_to_client()) {
        survives(&message)?;
    }

    #[test]
    fn messages_of_a_node_survive(message in node_to_relay()) {
        survives(&message)?;
    }

    #[test]
    fn messages_to_a_node_survive(message in relay_to_node()) {
        survives(&message)?;
    }

    #[test]
    fn token_frames_survive(entries in vec(entry(), 0..12)) {
        let mut writer = TokenFrameWriter::new();
        for e in &entries {
            prop_assert!(writer.push(e.alias, e.offset, e.kind, &e.tokens, &e.bytes));
        }
        let bytes = writer.finish();
        let frame = TokenFrame::decode(&bytes).unwrap();
        let read: Vec<_> = frame.entries().collect();
        prop_assert_eq!(read.len(), entries.len());
        for (read, wrote) in read.iter().zip(&entries) {
            prop_assert_eq!(read.alias, wrote.alias);
            prop_assert_eq!(read.offset, wrote.offset);
            prop_assert_eq!(read.kind, wrote.kind);
            prop_assert_eq!(read.tokens().collect::<Vec<_>>(), wrote.tokens.clone());
            prop_assert_eq!(usize::try_from(read.token_count()).unwrap(), wrote.tokens.len());
            prop_assert_eq!(read.bytes, &wrote.bytes[..]);
        }
    }

    #[test]
    fn a_forwarded_entry_is_the_entry_itself(entries in vec(entry(), 1..12)) {
        let mut pushed = TokenFrameWriter::new();
        for e in &entries {
            prop_assert!(pushed.push(e.alias, e.offset, e.kind, &e.tokens, &e.bytes));
        }
        let pushed = pushed.finish();
        let mut forwarded = TokenFrameWriter::new();
        for entry in TokenFrame::decode(&pushed).unwrap().entries() {
            prop_assert!(forwarded.push_raw(&entry));
        }
        prop_assert_eq!(forwarded.finish(), pushed);
    }
}
