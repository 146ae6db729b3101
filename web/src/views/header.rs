//! The page's edge: its name, who answers, a new chat.

use leptos::prelude::*;

use super::icons;
use crate::chat::Chat;
use crate::tiers::Tier;

#[component]
pub(crate) fn Header(chat: Chat) -> impl IntoView {
    let is_empty = Memo::new(move |_| chat.state.with(|state| state.messages().is_empty()));
    view! {
        <header class="top">
            <h1 class="name">{icons::mark()} <span>"Heliograph"</span></h1>
            <div class="top-actions">
                <TierPicker chat=chat />
                <button
                    type="button"
                    class="quiet new-chat"
                    data-testid="new-chat"
                    title="Delete this conversation and start a new one"
                    disabled=move || is_empty.get()
                    on:click=move |_| chat.new_chat()
                >
                    {icons::plus()}
                    <span>"New chat"</span>
                </button>
            </div>
        </header>
    }
}

#[component]
fn TierPicker(chat: Chat) -> impl IntoView {
    let tiers = Memo::new(move |_| {
        chat.catalog
            .with(|catalog| catalog.as_ref().map(|catalog| catalog.tiers.clone()))
            .unwrap_or_default()
    });
    let chosen = Memo::new(move |_| {
        chat.state
            .with(|state| state.tier().unwrap_or_default().to_owned())
    });
    let options = move || {
        let chosen = chosen.get();
        tiers
            .get()
            .into_iter()
            .map(|tier| {
                let selected = tier.id == chosen;
                view! {
                    <option value=tier.id.clone() prop:selected=selected selected=selected>
                        {label(&tier)}
                    </option>
                }
            })
            .collect_view()
    };
    view! {
        <label class="tier" hidden=move || chosen.with(String::is_empty)>
            <span class="unseen">"Who answers"</span>
            <select
                data-testid="tier"
                prop:value=move || chosen.get()
                on:change=move |event| chat.choose_tier(event_target_value(&event))
            >
                {options}
            </select>
        </label>
    }
}

fn label(tier: &Tier) -> String {
    if tier.nodes == Some(0) {
        format!("{} (no node)", tier.name)
    } else {
        tier.name.clone()
    }
}
