//! Where questions are written.

use leptos::ev::KeyboardEvent;
use leptos::html::{Button, Textarea};
use leptos::prelude::*;

use super::icons;
use crate::browser;
use crate::chat::Chat;
use crate::link::Link;
use crate::state::State;
use crate::wording;

/// Whether a key press sends: Enter alone, and not the Enter that ends a word of an input method.
pub(crate) fn sends(event: &KeyboardEvent) -> bool {
    // Safari ends a composition before the key press, but keeps its key code.
    let composing = event.is_composing() || event.key_code() == 229;
    event.key() == "Enter" && !event.shift_key() && !composing
}

#[component]
pub(crate) fn Composer(chat: Chat) -> impl IntoView {
    let running = Memo::new(move |_| chat.state.with(|state| state.running().is_some()));
    let blank = Memo::new(move |_| chat.draft.with(|draft| draft.trim().is_empty()));
    let send = Callback::new(move |()| {
        if running.get_untracked() || blank.get_untracked() {
            return;
        }
        let text = chat.draft.get_untracked();
        chat.write_draft(String::new());
        chat.ask(&text);
        chat.focus_composer();
    });
    view! {
        <form
            class="composer"
            on:submit=move |event| {
                event.prevent_default();
                send.run(());
            }
        >
            <Field chat=chat send=send />
            <button
                type="submit"
                class="round primary"
                aria-label="Send"
                title="Send (Enter)"
                data-testid="send"
                hidden=move || running.get()
                disabled=move || blank.get()
            >
                {icons::send()}
            </button>
            <StopButton chat=chat running=running />
        </form>
        <Under chat=chat />
    }
}

#[component]
fn Field(chat: Chat, send: Callback<()>) -> impl IntoView {
    let field = NodeRef::<Textarea>::new();
    let on_key = move |event: KeyboardEvent| {
        if sends(&event) {
            event.prevent_default();
            send.run(());
        } else if event.key() == "ArrowUp"
            && chat.draft.with_untracked(String::is_empty)
            && let Some(last) = chat.state.with_untracked(State::last_question)
        {
            event.prevent_default();
            chat.edit(last);
        }
    };
    // Only ever after something the person did, such as opening the page.
    Effect::new(move |before: Option<u32>| {
        let count = chat.focus.get();
        let wanted = before.map_or_else(
            || browser::has_keyboard() && chat.edits.with_untracked(|edits| edits.open().is_none()),
            |before| before != count,
        );
        if wanted && let Some(field) = field.get_untracked() {
            drop(field.focus());
        }
        count
    });
    view! {
        <div class="grow" data-value=move || chat.draft.get()>
            <textarea
                id="composer"
                rows="1"
                placeholder="Ask anything"
                aria-label="Your question"
                enterkeyhint="send"
                data-testid="composer"
                node_ref=field
                prop:value=move || chat.draft.get()
                on:input=move |event| chat.write_draft(event_target_value(&event))
                on:keydown=on_key
            ></textarea>
        </div>
    }
}

#[component]
fn StopButton(chat: Chat, running: Memo<bool>) -> impl IntoView {
    let button = NodeRef::<Button>::new();
    // It goes when the answer ends; a focus on it would fall to nowhere.
    Effect::new(move |_| {
        if !running.get()
            && let Some(button) = button.get_untracked()
            && document().active_element().as_ref() == Some(button.as_ref())
        {
            chat.focus_composer();
        }
    });
    view! {
        <button
            type="button"
            class="round stop"
            aria-label="Stop"
            title="Stop (Esc)"
            data-testid="stop"
            hidden=move || !running.get()
            node_ref=button
            on:click=move |_| {
                chat.focus_composer();
                chat.stop();
            }
        >
            {icons::stop()}
        </button>
    }
}

/// The quiet line below: who is there, and which keys do what.
#[component]
fn Under(chat: Chat) -> impl IntoView {
    let presence = Memo::new(move |_| {
        let open = chat.link.get() == Link::Open;
        let chosen = chat.state.with(|state| state.tier().map(str::to_owned));
        chat.catalog.with(|catalog| {
            let tier = catalog.as_ref()?.tier(&chosen?)?;
            let nodes = tier.nodes.filter(|_| open)?;
            Some((nodes > 0, wording::nodes_online(nodes)))
        })
    });
    view! {
        <p class="under">
            <span class="presence" data-testid="presence">
                {move || {
                    presence
                        .get()
                        .map(|(on, text)| {
                            view! {
                                <span class="dot" class:on=on aria-hidden="true"></span>
                                {text}
                            }
                        })
                }}
            </span>
            <span class="keys">
                <kbd>"Enter"</kbd>
                " sends, "
                <kbd>"Shift"</kbd>
                " "
                <kbd>"Enter"</kbd>
                " breaks the line, "
                <kbd>"Esc"</kbd>
                " stops"
            </span>
        </p>
    }
}
