//! The rig node: llama.cpp in process, behind a node session.
//!
//! What it is: a process that keeps one connection to a relay and answers jobs with one model.
//! What it is not: it decides nothing about the wire; `node-session` does.
//!
//! ```text
//! relay ◀═ WebSocket ═▶ shell ◀─ inputs, outputs ─▶ node_session::NodeSession
//!                         │ commands        ▲ events
//!                         ▼                 │
//!                       engine (one thread, one decode loop) ── engine::llama ── llama.cpp
//! ```

pub mod bench;
pub mod config;
pub mod console;
pub mod engine;
pub mod health;
pub mod log;
pub mod logits;
pub mod models;
pub mod operating;
pub mod perplexity;
pub mod shell;
