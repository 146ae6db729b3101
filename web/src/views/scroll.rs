//! The page follows an answer as it grows, and lets go when the reader scrolls up.

use leptos::ev;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::Closure;
use web_sys::{Element, ResizeObserver, ScrollBehavior, ScrollToOptions};

use super::icons;
use crate::chat::Chat;

/// So near to the end counts as at the end.
const NEAR_PX: f64 = 48.0;

fn page() -> Option<Element> {
    document().document_element()
}

/// How far the end is below the window.
fn distance() -> f64 {
    page().map_or(0.0, |page| {
        f64::from(page.scroll_height()) - f64::from(page.client_height()) - offset()
    })
}

fn offset() -> f64 {
    window().scroll_y().unwrap_or(0.0)
}

fn to_end(behavior: ScrollBehavior) {
    if let Some(page) = page() {
        let options = ScrollToOptions::new();
        options.set_top(f64::from(page.scroll_height()));
        options.set_behavior(behavior);
        window().scroll_to_with_scroll_to_options(&options);
    }
}

/// Whether the page follows.
pub(crate) fn following(chat: Chat) -> RwSignal<bool> {
    let following = RwSignal::new(true);
    let last = StoredValue::new(0.0);
    let listener = window_event_listener(ev::scroll, move |_| {
        let now = offset();
        if distance() < NEAR_PX {
            following.set(true);
        } else if now < last.get_value() - 1.0 {
            // Only the reader moves up.
            following.set(false);
        }
        last.set_value(now);
    });
    // A window that turns or narrows moves the text under a reader who did nothing. This comes before its scroll event.
    let turned = window_event_listener(ev::resize, move |_| {
        if following.get_untracked() {
            to_end(ScrollBehavior::Instant);
        }
        last.set_value(offset());
    });
    on_cleanup(move || {
        listener.remove();
        turned.remove();
    });

    Effect::new(move |_| {
        chat.follow.track();
        following.set(true);
        to_end(ScrollBehavior::Instant);
    });

    let observer = StoredValue::new_local(None::<(ResizeObserver, Closure<dyn FnMut()>)>);
    Effect::new(move |_| {
        // The whole page and not the conversation alone: a notice above the composer takes room, too.
        let Some(body) = document().body() else {
            return;
        };
        let grown = Closure::<dyn FnMut()>::new(move || {
            if following.get_untracked() {
                to_end(ScrollBehavior::Instant);
            }
        });
        if let Ok(watching) = ResizeObserver::new(grown.as_ref().unchecked_ref()) {
            watching.observe(&body);
            observer.set_value(Some((watching, grown)));
        }
    });
    following
}

/// Back to the end, for readers who let go.
#[component]
pub(crate) fn JumpToLatest(chat: Chat, following: RwSignal<bool>) -> impl IntoView {
    let jump = move |_| {
        // The button goes; a focus on it would fall to nowhere.
        chat.focus_composer();
        following.set(true);
        to_end(ScrollBehavior::Auto);
    };
    view! {
        <button
            type="button"
            class="jump"
            data-testid="jump"
            hidden=move || following.get()
            on:click=jump
        >
            {icons::down()}
            "Jump to latest"
        </button>
    }
}
