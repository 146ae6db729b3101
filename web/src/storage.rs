//! How the conversation lies in the browser: JSON with a version, or nothing.

use serde::{Deserialize, Serialize};

use crate::state::Message;

/// Grows when old conversations can no longer be read; those are then left alone and forgotten.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored<T> {
    version: u32,
    messages: T,
}

/// A conversation as text.
pub fn write(messages: &[Message]) -> String {
    // Our types serialise without fail; an empty text is read as no conversation.
    serde_json::to_string(&Stored {
        version: VERSION,
        messages,
    })
    .unwrap_or_default()
}

/// The conversation of a text; empty where the text is anything else.
pub fn read(text: &str) -> Vec<Message> {
    let stored: Option<Stored<Vec<Message>>> = serde_json::from_str(text).ok();
    stored
        .filter(|stored| stored.version == VERSION)
        // Messages are found by searching among rising ids.
        .filter(|stored| stored.messages.is_sorted_by(|a, b| a.id < b.id))
        .map(|stored| stored.messages)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_conversation_is_read_as_none() {
        for text in ["", "{}", "[]", r#"{"version":2,"messages":[]}"#, "\u{0}"] {
            assert!(read(text).is_empty(), "{text}");
        }
        let twice = r#"{"version":1,"messages":[{"id":1,"body":{"user":"a"}},{"id":1,"body":{"user":"b"}}]}"#;
        assert!(read(twice).is_empty());
    }
}
