//! What the model answers, from the wait for it to the line of figures below it.

use std::time::Duration;

use leptos::ev::MouseEvent;
use leptos::html::Div;
use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen::JsCast;
use web_sys::Element;

use super::{COPIED, CopyButton, tell_copied};
use crate::browser;
use crate::chat::Chat;
use crate::state::{Answer, Message, MessageId, Phase, Trouble};
use crate::views::icons;
use crate::views::notice::working;
use crate::views::rendered::Rendered;
use crate::wording;

#[component]
pub(super) fn AnswerView(chat: Chat, id: MessageId) -> impl IntoView {
    let read = move |look: fn(&Answer) -> Phase| {
        chat.state
            .with(|state| state.message(id).and_then(Message::answer).map(look))
    };
    let phase = Memo::new(move |_| read(|answer| answer.phase.clone()).unwrap_or(Phase::Stopped));
    let revision = Memo::new(move |_| {
        chat.state
            .with(|state| state.message(id).map(|message| message.revision))
    });
    let is_last = Memo::new(move |_| {
        chat.state
            .with(|state| state.messages().last().is_some_and(|last| last.id == id))
    });

    let place = NodeRef::<Div>::new();
    let rendered = StoredValue::new_local(None::<Rendered>);
    Effect::new(move |_| {
        // Read, not only tracked: a memo that nobody reads never learns what it depends on.
        let (Some(place), Some(_)) = (place.get(), revision.get()) else {
            return;
        };
        chat.state.with_untracked(|state| {
            let Some(answer) = state.message(id).and_then(Message::answer) else {
                return;
            };
            rendered.update_value(|rendered| {
                rendered
                    .get_or_insert_with(|| Rendered::new(place.into()))
                    .show(&answer.text, &answer.phase);
            });
        });
    });
    let streaming = move || phase.with(|phase| *phase == Phase::Streaming);
    view! {
        <article
            id=browser::message_element(id)
            tabindex="-1"
            aria-busy=move || phase.with(|phase| !phase.is_final()).to_string()>
            <h2 class="unseen">"Answer"</h2>
            <div class="answer" data-testid="message-assistant">
                <Thoughts chat=chat id=id phase=phase />
                <div
                    class="markdown"
                    class:streaming=streaming
                    node_ref=place
                    on:click=move |event| copy_code(chat, &event)
                ></div>
                {move || phase_view(chat, id, &phase.get(), is_last)}
            </div>
        </article>
    }
}

/// What the model thought first, folded up. Plain text: nobody asked it to be well-formed.
#[component]
fn Thoughts(chat: Chat, id: MessageId, phase: Memo<Phase>) -> impl IntoView {
    let thoughts = Memo::new(move |_| {
        chat.state.with(|state| {
            let answer = state.message(id).and_then(Message::answer);
            answer.map_or_else(String::new, |answer| answer.thoughts.trim().to_owned())
        })
    });
    let is_thinking = Memo::new(move |_| phase.with(|phase| *phase == Phase::Thinking));
    let has_thoughts = Memo::new(move |_| thoughts.with(|thoughts| !thoughts.is_empty()));
    let heading = move || {
        if is_thinking.get() {
            view! { {working()} "Thinking…" }.into_any()
        } else {
            "Thoughts".into_any()
        }
    };
    view! {
        <Show when=move || has_thoughts.get()>
            <details class="thoughts" data-testid="thoughts">
                <summary>{heading}</summary>
                <p>{move || thoughts.get()}</p>
            </details>
        </Show>
    }
}

/// What stands below the text.
fn phase_view(chat: Chat, id: MessageId, phase: &Phase, is_last: Memo<bool>) -> AnyView {
    match phase {
        Phase::Unsent => pending("Waiting for the connection…".to_owned()),
        Phase::Sent => pending("Looking for a node…".to_owned()),
        Phase::Queued { .. } => view! { <Queued chat=chat id=id phase=phase.clone() /> }.into_any(),
        Phase::Reading => {
            let (node, goes_on) = chat.state.with_untracked(|state| {
                let answer = state.message(id).and_then(Message::answer);
                answer.map_or((None, false), |answer| {
                    let has_begun = !answer.text.is_empty() || !answer.thoughts.is_empty();
                    (answer.node.clone(), has_begun)
                })
            });
            let text = wording::reading(node.as_deref(), goes_on);
            if goes_on {
                // Most answers go on at once: the style sheet shows this one only after a moment.
                view! { <p class="pending late">{working()} {text}</p> }.into_any()
            } else {
                pending(text)
            }
        }
        Phase::Reconnecting => view! {
            <p class="pending late" data-testid="reconnecting">
                {working()}
                {move || wording::reconnecting(chat.link.get())}
            </p>
        }
        .into_any(),
        // The thoughts' own heading says it.
        Phase::Thinking | Phase::Streaming => ().into_any(),
        Phase::Done(_) | Phase::Stopped => {
            view! { <Foot chat=chat id=id is_last=is_last /> }.into_any()
        }
        Phase::Failed(trouble) => failed(chat, id, trouble, is_last),
    }
}

/// The place in line and the time that it may take, which passes.
#[component]
fn Queued(chat: Chat, id: MessageId, phase: Phase) -> impl IntoView {
    let told_at = browser::now_ms();
    let now = RwSignal::new(told_at);
    if let Ok(timer) =
        set_interval_with_handle(move || now.set(browser::now_ms()), Duration::from_secs(1))
    {
        on_cleanup(move || timer.clear());
    }
    let text = Memo::new(move |_| {
        let elapsed_ms = now.get().saturating_sub(told_at);
        chat.queue_place(id, &phase, elapsed_ms).unwrap_or_default()
    });
    view! {
        <p class="pending" data-testid="queue-place">
            {working()}
            {move || text.get()}
        </p>
    }
}

fn pending(text: String) -> AnyView {
    view! {
        <p class="pending" data-testid="pending">
            {working()}
            {text}
        </p>
    }
    .into_any()
}

fn failed(chat: Chat, id: MessageId, trouble: &Trouble, is_last: Memo<bool>) -> AnyView {
    let (text, remedy) = wording::failure(trouble);
    view! {
        <div class="failure" data-testid="failure">
            <p>{text}</p>
            <button
                type="button"
                class="quiet"
                data-testid="retry"
                hidden=move || !is_last.get()
                on:click=move |_| chat.remedy(id, remedy)
            >
                {remedy.label()}
            </button>
        </div>
    }
    .into_any()
}

/// The quiet line: which model, how fast, and what to do with the answer.
#[component]
fn Foot(chat: Chat, id: MessageId, is_last: Memo<bool>) -> impl IntoView {
    let has_text = chat.state.with_untracked(|state| {
        state
            .message(id)
            .is_some_and(|message| !message.text().is_empty())
    });
    let line = move || {
        let parts = chat.state.with_untracked(|state| {
            let answer = state.message(id).and_then(Message::answer)?;
            Some((answer.model.clone(), answer.phase.clone()))
        });
        let Some((model, phase)) = parts else {
            return String::new();
        };
        let model = model.map(|model| chat.model_name(&model));
        match phase {
            Phase::Done(meta) => wording::meta_line(model.as_deref(), &meta),
            Phase::Unsent
            | Phase::Sent
            | Phase::Queued { .. }
            | Phase::Reading
            | Phase::Thinking
            | Phase::Streaming
            | Phase::Reconnecting
            | Phase::Stopped
            | Phase::Failed(_) => wording::stopped_line(model.as_deref()),
        }
    };
    view! {
        <footer class="foot">
            <div class="actions">
                {has_text.then(|| view! { <CopyButton chat=chat id=id what="Copy answer" /> })}
                <button
                    type="button"
                    class="icon-button"
                    aria-label="Answer again"
                    title="Answer again"
                    data-testid="regenerate"
                    hidden=move || !is_last.get()
                    on:click=move |_| chat.ask_again(id)
                >
                    {icons::again()}
                </button>
            </div>
            <p class="meta" data-testid="answer-meta">
                {line}
            </p>
        </footer>
    }
}

/// Buttons in code blocks are made with their block, not by a view: one listener serves them all.
fn copy_code(chat: Chat, event: &MouseEvent) {
    let button = event
        .target()
        .and_then(|target| target.dyn_into::<Element>().ok())
        .and_then(|target| target.closest("button[data-copy]").ok().flatten());
    let Some(button) = button else { return };
    let code = button
        .closest("figure")
        .ok()
        .flatten()
        .and_then(|figure| figure.query_selector("pre").ok().flatten())
        .and_then(|code| code.text_content())
        .unwrap_or_default();
    spawn_local(async move {
        let done = browser::copy(&code).await;
        tell_copied(chat, done);
        button.set_text_content(Some(if done { "Copied" } else { "No access" }));
        set_timeout(move || button.set_text_content(Some("Copy")), COPIED);
    });
}
