//! A conversation as a model gets to read it.

use protocol::{ChatMessage, Role};

use super::{Body, Message};

/// Answers without text are left out, and questions that then touch become one, for many chat templates insist on
/// taking turns.
pub(super) fn history(messages: &[Message]) -> Vec<ChatMessage> {
    let mut history: Vec<ChatMessage> = Vec::new();
    for message in messages {
        let (role, text) = match &message.body {
            Body::User(text) => (Role::User, text),
            Body::Assistant(answer) => (Role::Assistant, &answer.text),
        };
        if text.trim().is_empty() {
            continue;
        }
        match history.last_mut() {
            Some(last) if last.role == role => {
                last.content.push_str("\n\n");
                last.content.push_str(text);
            }
            Some(_) | None => history.push(ChatMessage {
                role,
                content: text.clone(),
                ..ChatMessage::default()
            }),
        }
    }
    history
}
