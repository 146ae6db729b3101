//! What an operator sees of a running rig: its state and numbers on a local port, a self-test, `rig health`, `rig doctor`.
//!
//! ```text
//! shell ─▶ board (state, counts) ◀─ server (/healthz, /metrics) ◀─ Prometheus, `rig health`, a container's health check
//! ```

pub mod board;
pub mod doctor;
pub mod machine;
pub mod selftest;
pub mod server;
