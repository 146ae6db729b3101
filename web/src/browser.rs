//! The browser's own things: storage, clock, randomness, clipboard.

use leptos::prelude::window;
use protocol::JobId;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{FocusOptions, HtmlElement, Storage};

use crate::state::MessageId;

/// Where a conversation, a draft and a choice lie. This tab's copy comes first, so that two tabs do not mix; the shared
/// one is what a new tab begins with.
pub(crate) const CONVERSATION: &str = "heliograph.conversation";
pub(crate) const DRAFT: &str = "heliograph.draft";
pub(crate) const EDITS: &str = "heliograph.edits";
pub(crate) const TIER: &str = "heliograph.tier";
pub(crate) const MODELS: &str = "heliograph.models";
const KEY: &str = "heliograph.key";

fn local() -> Option<Storage> {
    window().local_storage().ok().flatten()
}

fn session() -> Option<Storage> {
    window().session_storage().ok().flatten()
}

/// What is stored under a name.
pub(crate) fn load(name: &str) -> Option<String> {
    [session(), local()]
        .into_iter()
        .flatten()
        .find_map(|storage| storage.get_item(name).ok().flatten())
}

/// Stores a text; an empty one is deleted. A full or forbidden storage costs the reload, not the page.
pub(crate) fn save(name: &str, text: &str) {
    for storage in [session(), local()].into_iter().flatten() {
        let done = if text.is_empty() {
            storage.remove_item(name)
        } else {
            storage.set_item(name, text)
        };
        drop(done);
    }
}

/// The API key of this tab; it ends with the tab.
pub(crate) fn key() -> Option<String> {
    session()?.get_item(KEY).ok().flatten()
}

/// Keeps an API key for this tab.
pub(crate) fn keep_key(key: &str) {
    if let Some(storage) = session() {
        drop(storage.set_item(KEY, key));
    }
}

/// Milliseconds of a clock that never goes back.
pub(crate) fn now_ms() -> u64 {
    let now = window().performance().map_or(0.0, |clock| clock.now());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a page lives for less than 2^53 ms, and the clock starts at 0"
    )]
    let now = now as u64;
    now
}

/// 0 to 1.
pub(crate) fn random() -> f64 {
    js_sys::Math::random()
}

/// A fresh job's id. Every browser that runs this page has the generator; without it the id would be 0 and refused as
/// a duplicate the second time.
pub(crate) fn job_id() -> JobId {
    let mut bytes = [0; 16];
    if let Ok(crypto) = window().crypto() {
        drop(crypto.get_random_values_with_u8_array(&mut bytes));
    }
    JobId::from_random(bytes)
}

/// Whether the browser believes that there is a network.
pub(crate) fn is_online() -> bool {
    window().navigator().on_line()
}

/// Whether taking the focus brings up no keyboard over half of the screen.
pub(crate) fn has_keyboard() -> bool {
    window()
        .match_media("(pointer: fine)")
        .ok()
        .flatten()
        .is_some_and(|query| query.matches())
}

/// Moves the focus to where there is something to read, and opens no keyboard: to this message, to the last one, or to
/// the whole of the page's middle. Not before what is going on now has been drawn; nothing moves where somebody writes.
pub(crate) fn focus_reading(message: Option<MessageId>) {
    leptos::prelude::request_animation_frame(move || {
        let document = leptos::prelude::document();
        let writes = document
            .active_element()
            .is_some_and(|element| element.id() == "composer");
        if writes {
            return;
        }
        let one = message.and_then(|id| document.get_element_by_id(&message_element(id)));
        let last = || {
            let all = document.query_selector_all("main article").ok()?;
            all.item(all.length().checked_sub(1)?)?.dyn_into().ok()
        };
        let middle = || document.query_selector("main").ok().flatten();
        let target = one.or_else(last).or_else(middle);
        if let Some(target) = target.and_then(|target| target.dyn_into::<HtmlElement>().ok()) {
            let options = FocusOptions::new();
            options.set_prevent_scroll(true);
            drop(target.focus_with_options(&options));
        }
    });
}

/// The id of a message's element.
pub(crate) fn message_element(id: MessageId) -> String {
    format!("message-{}", id.0)
}

/// Whether anybody can see the page.
pub(crate) fn is_visible() -> bool {
    !leptos::prelude::document().hidden()
}

/// Puts a text on the clipboard; `false` where the browser forbids it (a page over plain HTTP has no clipboard).
pub(crate) async fn copy(text: &str) -> bool {
    let navigator = window().navigator();
    let present = js_sys::Reflect::get(&navigator, &JsValue::from_str("clipboard"))
        .is_ok_and(|clipboard| !clipboard.is_undefined());
    present
        && JsFuture::from(navigator.clipboard().write_text(text))
            .await
            .is_ok()
}
