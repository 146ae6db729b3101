//! The relay wants to know who asks.

use leptos::html::Input;
use leptos::prelude::*;

use crate::chat::Chat;
use crate::link::Link;

#[component]
pub(crate) fn KeyForm(chat: Chat) -> impl IntoView {
    let field = NodeRef::<Input>::new();
    let refused = move || chat.link.get() == Link::KeyNeeded { refused: true };
    view! {
        <form
            class="key"
            data-testid="key-form"
            on:submit=move |event| {
                event.prevent_default();
                if let Some(field) = field.get_untracked() {
                    let key = field.value();
                    if !key.trim().is_empty() {
                        chat.enter_key(&key);
                    }
                }
            }
        >
            <label for="key">"This relay asks for an API key."</label>
            <p class="wrong" hidden=move || !refused()>
                "The relay does not know that key. Check that it begins with hg- and is whole."
            </p>
            <div class="key-row">
                <input
                    id="key"
                    type="password"
                    autocomplete="off"
                    spellcheck="false"
                    placeholder="hg-…"
                    data-testid="key"
                    aria-invalid=move || refused().to_string()
                    node_ref=field
                />
                <button type="submit" class="primary">
                    "Connect"
                </button>
            </div>
            <p class="muted">"It is kept until this tab is closed, and sent to this relay only."</p>
        </form>
    }
}
