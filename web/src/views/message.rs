//! Questions and answers.

mod answer;
mod question;

use std::time::Duration;

use leptos::prelude::*;
use leptos::task::spawn_local;

use self::answer::AnswerView;
use self::question::QuestionView;
use super::icons;
use crate::browser;
use crate::chat::Chat;
use crate::state::{Message, MessageId};

/// How long a button says that it has copied.
const COPIED: Duration = Duration::from_millis(1600);

/// The conversation, oldest first.
#[component]
pub(crate) fn Messages(chat: Chat) -> impl IntoView {
    let ids = Memo::new(move |_| {
        chat.state
            .with(|state| state.messages().iter().map(|m| m.id).collect::<Vec<_>>())
    });
    view! {
        <For each=move || ids.get() key=|id| *id let:id>
            {
                let is_question = chat.state.with_untracked(|state| {
                    state.message(id).is_some_and(Message::is_question)
                });
                if is_question {
                    view! { <QuestionView chat=chat id=id /> }.into_any()
                } else {
                    view! { <AnswerView chat=chat id=id /> }.into_any()
                }
            }
        </For>
    }
}

/// Puts a message's text on the clipboard.
#[component]
fn CopyButton(chat: Chat, id: MessageId, what: &'static str) -> impl IntoView {
    let copied = RwSignal::new(false);
    let copy = move |_| {
        let text = chat.state.with_untracked(|state| {
            state
                .message(id)
                .map(|message| message.text().to_owned())
                .unwrap_or_default()
        });
        spawn_local(async move {
            let done = browser::copy(&text).await;
            tell_copied(chat, done);
            copied.set(done);
            set_timeout(
                move || {
                    copied.try_set(false);
                },
                COPIED,
            );
        });
    };
    view! {
        <button type="button" class="icon-button" aria-label=what title=what on:click=copy>
            {move || if copied.get() { icons::check().into_any() } else { icons::copy().into_any() }}
        </button>
    }
}

fn tell_copied(chat: Chat, done: bool) {
    chat.say(if done {
        "Copied."
    } else {
        "The browser does not let this page copy."
    });
}
