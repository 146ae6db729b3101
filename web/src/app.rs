//! The page: edges, conversation, composer, and what holds everywhere on it.

use leptos::ev;
use leptos::prelude::*;

use crate::chat::Chat;
use crate::link::Link;
use crate::views::composer::Composer;
use crate::views::empty::Empty;
use crate::views::header::Header;
use crate::views::message::Messages;
use crate::views::notice::Notice;
use crate::views::scroll::{JumpToLatest, following};

#[component]
pub(crate) fn App() -> impl IntoView {
    let chat = Chat::start();
    let following = following(chat);
    listen(chat);
    let is_empty = Memo::new(move |_| chat.state.with(|state| state.messages().is_empty()));
    view! {
        <Header chat=chat />
        <main class="middle" tabindex="-1" class:is-empty=move || is_empty.get()>
            <div class="conversation">
                <Show when=move || is_empty.get()>
                    <Empty chat=chat />
                </Show>
                <Messages chat=chat />
            </div>
        </main>
        <div class="bottom">
            <JumpToLatest chat=chat following=following />
            <Notice chat=chat />
            <Composer chat=chat />
        </div>
        <Sayings chat=chat />
    }
}

/// What is said to screen readers only. Additions are read when the reader is idle; nothing here takes the focus.
#[component]
fn Sayings(chat: Chat) -> impl IntoView {
    view! {
        <div class="unseen" role="log" aria-live="polite" aria-relevant="additions" data-testid="sayings">
            <For each=move || chat.sayings.get() key=|saying| saying.number let:saying>
                <p>{saying.text}</p>
            </For>
        </div>
    }
}

/// Keys, network and visibility hold for the whole page.
fn listen(chat: Chat) {
    let keys = window_event_listener(ev::keydown, move |event| {
        if event.key() != "Escape" || event.is_composing() {
            return;
        }
        // Stopping comes first: an answer is gone while an editor waits.
        if chat.state.with_untracked(|state| state.running().is_some()) {
            event.prevent_default();
            chat.stop();
        } else {
            chat.close_editor();
        }
    });
    let online = window_event_listener(ev::online, move |_| chat.hurry());
    let offline = window_event_listener(ev::offline, move |_| {
        if chat.link.get_untracked() == Link::Reconnecting {
            chat.link.set(Link::Offline);
        }
    });
    let visible = document_visibility(move || {
        chat.hurry();
        chat.load_catalog();
    });
    on_cleanup(move || {
        keys.remove();
        online.remove();
        offline.remove();
        visible.remove();
    });
}

fn document_visibility(shown: impl Fn() + 'static) -> WindowListenerHandle {
    // `visibilitychange` bubbles from the document to the window.
    window_event_listener_untyped("visibilitychange", move |_| {
        if crate::browser::is_visible() {
            shown();
        }
    })
}
