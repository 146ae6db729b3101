//! The pages: chat.
//!
//! What it is: the conversation, which lives in this browser only, and one WebSocket to the relay.
//!
//! ```text
//! views ──Action──▶ state ──Effect──▶ chat ──▶ connection ──▶ relay
//!   ▲                 │                            │
//!   └──── redraw ─────┘◀────── once a frame ───────┘
//! ```
//!
//! State, wording and Markdown are pure and tested natively; only what is marked `wasm32` below touches a browser.

pub mod announce;
pub mod edits;
pub mod link;
pub mod markdown;
pub mod pulse;
pub mod state;
pub mod storage;
pub mod tiers;
pub mod wording;

#[cfg(target_arch = "wasm32")]
#[expect(
    unreachable_pub,
    reason = "components' generated properties are `pub` whatever the component is"
)]
mod app;
#[cfg(target_arch = "wasm32")]
mod browser;
#[cfg(target_arch = "wasm32")]
mod chat;
#[cfg(target_arch = "wasm32")]
mod connection;
#[cfg(target_arch = "wasm32")]
#[expect(
    unreachable_pub,
    reason = "components' generated properties are `pub` whatever the component is"
)]
mod views;

/// What `boot.js` starts: the page takes the document's body.
#[cfg(target_arch = "wasm32")]
#[wasm_bindgen::prelude::wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
    leptos::mount::mount_to_body(app::App);
}
