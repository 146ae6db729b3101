//! One line above the composer, only while something is not as it should be.

use leptos::prelude::*;

use super::key_form::KeyForm;
use crate::chat::Chat;
use crate::link::Link;
use crate::state::Phase;

/// What there is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Matter {
    Nothing,
    Connecting,
    Reconnecting,
    Offline,
    Broken(u16),
    Key,
    /// Nobody serves this tier; the id and name of one that somebody serves, if there is one.
    NoNode(String, Option<(String, String)>),
}

fn matter(chat: Chat) -> Matter {
    // An answer that lost its connection says it for itself.
    let goes_on = chat.state.with(|state| {
        let answer = state.running().and_then(|id| state.message(id)?.answer());
        answer.is_some_and(|answer| answer.phase == Phase::Reconnecting)
    });
    match chat.link.get() {
        Link::Reconnecting | Link::Offline if goes_on => Matter::Nothing,
        Link::Connecting => Matter::Connecting,
        Link::Reconnecting => Matter::Reconnecting,
        Link::Offline => Matter::Offline,
        Link::Broken { code } => Matter::Broken(code),
        Link::KeyNeeded { .. } => Matter::Key,
        Link::Open => {
            let chosen = chat.state.with(|state| state.tier().map(str::to_owned));
            chat.catalog.with(|catalog| {
                let (Some(catalog), Some(chosen)) = (catalog, chosen) else {
                    return Matter::Nothing;
                };
                // A question that waits says it for itself.
                let asked = chat.state.with(|state| state.running().is_some());
                match catalog.tier(&chosen) {
                    Some(tier) if tier.nodes == Some(0) && !asked => {
                        let other = catalog.served();
                        Matter::NoNode(
                            tier.name.clone(),
                            other.map(|tier| (tier.id.clone(), tier.name.clone())),
                        )
                    }
                    Some(_) | None => Matter::Nothing,
                }
            })
        }
    }
}

#[component]
pub(crate) fn Notice(chat: Chat) -> impl IntoView {
    let matter = Memo::new(move |_| matter(chat));
    let shown = move || {
        match matter.get() {
        Matter::Nothing => ().into_any(),
        // Most connections open at once: the style sheet shows this one only after a moment.
        Matter::Connecting => view! { <p class="late">{working()} "Connecting to the relay…"</p> }.into_any(),
        Matter::Reconnecting => view! {
            <p data-testid="reconnecting">
                {working()} "The connection was lost. Reconnecting…"
            </p>
        }
        .into_any(),
        Matter::Offline => view! {
            <p data-testid="offline">"You are offline. What you write here is kept."</p>
        }
        .into_any(),
        Matter::Broken(code) => view! {
            <p data-testid="broken">
                {format!("The relay closed the connection (code {code}). Loading the page again may help. ")}
                <button
                    type="button"
                    class="link"
                    on:click=move |_| drop(window().location().reload())
                >
                    "Reload"
                </button>
            </p>
        }
        .into_any(),
        Matter::Key => view! { <KeyForm chat=chat /> }.into_any(),
        Matter::NoNode(name, other) => view! {
            <p data-testid="no-node">
                {format!("No node serves {name} right now. Ask anyway: you wait in line until one joins. ")}
                {other.map(|(id, name)| view! {
                    <button type="button" class="link" on:click=move |_| {
                        chat.choose_tier(id.clone());
                        chat.focus_composer();
                    }>
                        {format!("Switch to {name}")}
                    </button>
                })}
            </p>
        }
        .into_any(),
    }
    };
    view! {
        <div class="notice" role="status">
            {shown}
        </div>
    }
}

/// Something is going on.
pub(crate) fn working() -> impl IntoView {
    view! { <span class="beacon" aria-hidden="true"></span> }
}
