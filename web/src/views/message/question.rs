//! What the person asked, and the same while it is rewritten.

use leptos::ev::KeyboardEvent;
use leptos::html::Textarea;
use leptos::prelude::*;

use super::CopyButton;
use crate::browser;
use crate::chat::Chat;
use crate::state::MessageId;
use crate::views::composer::sends;
use crate::views::icons;

#[component]
pub(super) fn QuestionView(chat: Chat, id: MessageId) -> impl IntoView {
    let text = Memo::new(move |_| {
        chat.state.with(|state| {
            state
                .message(id)
                .map(|message| message.text().to_owned())
                .unwrap_or_default()
        })
    });
    let editing = Memo::new(move |_| chat.edits.with(|edits| edits.open() == Some(id)));
    let shown = move || {
        if editing.get() {
            view! { <Editor chat=chat id=id question=text.get_untracked() /> }.into_any()
        } else {
            view! {
                <div class="bubble">{move || text.get()}</div>
                <div class="actions">
                    <button
                        type="button"
                        class="icon-button"
                        aria-label="Edit and ask again"
                        title="Edit and ask again"
                        on:click=move |_| chat.edit(id)
                    >
                        {icons::edit()}
                    </button>
                    <CopyButton chat=chat id=id what="Copy question" />
                </div>
            }
            .into_any()
        }
    };
    view! {
        <article id=browser::message_element(id) tabindex="-1">
            <h2 class="unseen">"You"</h2>
            <div class="question" data-testid="message-user">
                {shown}
            </div>
        </article>
    }
}

#[component]
fn Editor(chat: Chat, id: MessageId, question: String) -> impl IntoView {
    let kept = chat
        .edits
        .with_untracked(|edits| edits.text(id).map(str::to_owned));
    let draft = RwSignal::new(kept.unwrap_or_else(|| question.clone()));
    let field = NodeRef::<Textarea>::new();
    Effect::new(move |_| {
        if let Some(field) = field.get() {
            drop(field.focus());
            let end = u32::try_from(field.value().encode_utf16().count()).unwrap_or(u32::MAX);
            drop(field.set_selection_range(end, end));
        }
    });
    let save = move || chat.rewrite(id, &draft.get_untracked());
    let on_key = move |event: KeyboardEvent| {
        if sends(&event) {
            event.prevent_default();
            save();
        }
    };
    view! {
        <form
            class="editor"
            on:submit=move |event| {
                event.prevent_default();
                save();
            }
        >
            <div class="grow" data-value=move || draft.get()>
                <textarea
                    rows="1"
                    aria-label="Your question, to be asked again"
                    data-testid="editor"
                    node_ref=field
                    prop:value=move || draft.get()
                    on:input=move |event| {
                        let text = event_target_value(&event);
                        chat.write_edit(id, text.clone(), &question);
                        draft.set(text);
                    }
                    on:keydown=on_key
                ></textarea>
            </div>
            <div class="editor-buttons">
                <button
                    type="button"
                    class="quiet"
                    on:click=move |_| chat.give_up_edit(id)
                >
                    "Cancel"
                </button>
                <button
                    type="submit"
                    class="primary"
                    disabled=move || draft.with(|draft| draft.trim().is_empty())
                >
                    "Ask again"
                </button>
            </div>
        </form>
    }
}
