//! Whole-system tests: real workerd, real rigs with a real model, real Chromium. Nothing here stands in for a part of
//! the network; what misbehaves ([`RawSocket`], [`RawNode`]) does so on purpose, in tests of the protocol.
//!
//! ```text
//! Network   relay (workerd), started by `xtask demo`        Rig   one more node, the real program
//! Client    a well-behaved WebSocket client                 Api   /v1 over HTTP
//! Tap       sits between a rig and the relay and listens    Tools python, node, Chromium
//! Engine    runs containers, on a data root of its own
//! Line      carries TCP to the relay until it is cut        soak  answers under a hail of kills
//! ```
//!
//! Tests wait for events, never for time; every wait has a generous deadline, because machines are noisy.

mod api;
mod chromium;
mod client;
mod engine;
mod left_out;
mod line;
mod network;
mod programs;
mod raw;
mod restart;
mod rig;
pub mod soak;
mod tap;
mod tools;
mod wait;

pub use api::{Api, EventStream};
pub use chromium::{Called, Failed, run_in_chromium};
pub use client::{Answer, Client, ask, endless};
pub use engine::{Engine, free_port};
pub use left_out::leave_out;
pub use line::Line;
pub use network::{Network, Ready};
pub use programs::{Output, Traces, run, signal};
pub use raw::{Assignment, Incoming, RawNode, RawSocket, offer};
pub use restart::Relay;
pub use rig::Rig;
pub use tap::{Passed, Tap};
pub use tools::{Tools, xtask};
pub use wait::{DEADLINE, until, within};

/// The model that the demo and these tests run.
pub const MODEL: &str = "smollm2-135m";

/// A model of the catalog that no rig here offers: raw nodes serve it, so that they never get anybody else's jobs.
pub const OTHER_MODEL: &str = "atlas-30b";
