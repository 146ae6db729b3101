//! Parts of the relay benchmark: a token's stamp, the order that travels in a prompt, what processes cost, and users.
//!
//! ```text
//! load ──HTTP or WebSocket──▶ relay ◀──WebSocket── fake-node      tokens: @<CLOCK_MONOTONIC ns>.<index>;
//!   └───────HTTP────────────▶ another relay ─────▶ fake-backend
//! ```
//! Everything runs on one machine, so that all programs read the same clock and a latency is a subtraction.
//! Nothing here computes an answer, and nothing here is deployed.

pub mod directive;
pub mod load;
pub mod report;
pub mod stamp;
pub mod usage;
pub mod window;
