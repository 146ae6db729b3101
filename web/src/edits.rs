//! Questions that are being rewritten. What is written there is kept like a draft, until it is asked or given up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::state::{Message, MessageId};

/// Texts that differ from the questions they are to replace, and the question that is open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edits {
    open: Option<MessageId>,
    texts: BTreeMap<MessageId, String>,
}

impl Edits {
    /// What lies in the browser, as far as it belongs to this conversation.
    pub fn read(text: &str, messages: &[Message]) -> Self {
        let mut edits: Self = serde_json::from_str(text).unwrap_or_default();
        edits.retain(messages);
        edits
    }

    /// How it lies there; empty where there is nothing to keep.
    pub fn to_text(&self) -> String {
        if *self == Self::default() {
            return String::new();
        }
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The question that is open.
    pub const fn open(&self) -> Option<MessageId> {
        self.open
    }

    /// What stands in a question's editor, if that is not the question itself.
    pub fn text(&self, id: MessageId) -> Option<&str> {
        self.texts.get(&id).map(String::as_str)
    }

    /// Opens a question, with what was written there before.
    pub const fn start(&mut self, id: MessageId) {
        self.open = Some(id);
    }

    /// Somebody writes.
    pub fn write(&mut self, id: MessageId, text: String, question: &str) {
        if text == question {
            self.texts.remove(&id);
        } else {
            self.texts.insert(id, text);
        }
    }

    /// Closes what is open and keeps its text.
    pub const fn close(&mut self) {
        self.open = None;
    }

    /// Forgets a text: it was asked, or given up.
    pub fn discard(&mut self, id: MessageId) {
        self.texts.remove(&id);
        if self.open == Some(id) {
            self.open = None;
        }
    }

    /// Forgets what belongs to no question any more: ids begin anew in a new conversation.
    pub fn retain(&mut self, messages: &[Message]) {
        let is_there = |id: &MessageId| {
            messages
                .iter()
                .any(|message| message.id == *id && message.is_question())
        };
        self.texts.retain(|id, _| is_there(id));
        self.open = self.open.filter(is_there);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Body;

    const FIRST: MessageId = MessageId(0);
    const SECOND: MessageId = MessageId(2);

    fn questions() -> Vec<Message> {
        [FIRST, SECOND]
            .map(|id| Message {
                id,
                revision: 0,
                body: Body::User("Why?".to_owned()),
            })
            .into()
    }

    fn written() -> Edits {
        let mut edits = Edits::default();
        edits.start(FIRST);
        edits.write(FIRST, "Why not?".to_owned(), "Why?");
        edits
    }

    #[test]
    fn a_reload_brings_back_the_text_and_the_open_editor() {
        let edits = Edits::read(&written().to_text(), &questions());
        assert_eq!(edits, written());
        assert_eq!(edits.open(), Some(FIRST));
        assert_eq!(edits.text(FIRST), Some("Why not?"));
    }

    #[test]
    fn closing_keeps_each_text_for_the_next_time() {
        let mut edits = written();
        edits.close();
        edits.start(SECOND);
        edits.write(SECOND, "How?".to_owned(), "Why?");
        edits.close();
        assert_eq!(edits.open(), None);
        assert_eq!(edits.text(FIRST), Some("Why not?"));
        assert_eq!(edits.text(SECOND), Some("How?"));
    }

    #[test]
    fn what_is_asked_given_up_or_as_it_was_is_not_kept() {
        let mut edits = written();
        edits.discard(FIRST);
        assert_eq!(edits.to_text(), "");
        let mut edits = written();
        edits.write(FIRST, "Why?".to_owned(), "Why?");
        edits.close();
        assert_eq!(edits.to_text(), "");
    }

    #[test]
    fn another_conversation_takes_over_nothing() {
        assert_eq!(Edits::read(&written().to_text(), &[]), Edits::default());
        assert_eq!(Edits::read("{}", &questions()), Edits::default());
        assert_eq!(Edits::read("", &questions()), Edits::default());
    }
}
