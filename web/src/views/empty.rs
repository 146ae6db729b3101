//! Before the first question: what this is, and three things to try.

use leptos::prelude::*;

use crate::chat::Chat;
use crate::state::{Action, State};

const TRIES: [&str; 3] = [
    "Name three primary colours.",
    "How did a heliograph send messages with sunlight?",
    "Write a short poem about morning light.",
];

#[component]
pub(crate) fn Empty(chat: Chat) -> impl IntoView {
    let undo = Memo::new(move |_| chat.state.with(State::can_undo));
    let tries = TRIES
        .into_iter()
        .map(|text| {
            view! {
                <li>
                    <button
                        type="button"
                        class="try"
                        on:click=move |_| {
                            chat.ask(text);
                            chat.focus_composer();
                        }
                    >
                        {text}
                    </button>
                </li>
            }
        })
        .collect_view();
    view! {
        <section class="empty" data-testid="empty">
            <h2>"Ask, and somebody’s machine answers."</h2>
            <p>
                "Heliograph passes your question to a computer that someone shares, and shows the answer as it is written."
            </p>
            <p class="muted">
                "The conversation stays in this browser. The relay in between stores nothing."
            </p>
            <h3 class="unseen">"Three things to try"</h3>
            <ul class="tries">{tries}</ul>
            <p class="undo" hidden=move || !undo.get()>
                "Conversation deleted. "
                <button
                    type="button"
                    class="link"
                    on:click=move |_| {
                        chat.dispatch(Action::UndoNewChat);
                        chat.focus_composer();
                    }
                >
                    "Undo"
                </button>
            </p>
        </section>
    }
}
