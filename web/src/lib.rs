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
//! State, wording and Markdown are pure and tested natively; only what is under `wasm32` below touches a browser.

pub mod announce;
pub mod link;
pub mod markdown;
pub mod state;
pub mod storage;
pub mod tiers;
pub mod wording;
