//! A node's brain: handshake, heartbeat, slots, streams that outlive connections, drain. Shared by every class of node.
//! Sans-IO: the caller owns the socket, the clock and the engine.
//!
//! ```text
//!            ┌─────────────────── NodeSession ───────────────────┐
//! relay ───▶ │ link: dial, hello, heartbeat, back-off            │ ─▶ Connect, CloseSocket, Exit
//!            │ returning: announce, adopt, fence ─────▶ job ◀─┐  │ ─▶ Start, Stop, Pause, Unpause
//!            │ relay: assign, cancel, acknowledge ───▶ stream │  │
//! engine ──▶ │ engine: accepted, step, finished ──────────────┘  │
//! socket ──▶ │ outbox: order, gathering ◀─────────────           │ ─▶ Send, SendBinary
//!            └───────────────────────────────────────────────────┘
//! ```
//!
//! Invariant: after every [`NodeSession::handle_input`] (and after [`NodeSession::new`]), drain
//! [`NodeSession::poll_output`] until `None`. Then the engine has at most `slots` jobs, and every attempt that the relay
//! assigned or adopted on this connection is running, stopping, waiting for a place, has been answered with exactly one
//! `completed`, `failed` or `cancelled`, or gave way to a later attempt at its job.
//!
//! Nothing that the relay or the engine can say panics.

mod backoff;
mod config;
mod engine;
mod input;
mod job;
mod link;
mod outbox;
mod output;
mod relay;
mod returning;
mod stream;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use protocol::{Alias, NodeToRelay, PrefixHash};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use crate::config::Config;
pub use crate::input::{Advance, EngineEvent, Input, JobKey};
pub use crate::output::{End, Output};

use crate::backoff::Backoff;
use crate::job::Job;
use crate::link::Link;
use crate::outbox::Outbox;

/// Milliseconds of the caller's monotonic clock.
pub type Millis = u64;

/// One node's life, over as many connections as it takes.
#[derive(Debug)]
pub struct NodeSession {
    config: Config,
    rng: ChaCha8Rng,
    now: Millis,
    link: Link,
    backoff: Backoff,
    is_draining: bool,
    sent_at: Millis,
    jobs: BTreeMap<JobKey, Job>,
    aliases: BTreeMap<Alias, JobKey>,
    /// What `hello` said would be announced, as it was then.
    promised: Vec<(JobKey, NodeToRelay)>,
    /// Prompts that the engine checks: our number, and the relay's while it is there.
    checks: BTreeMap<u32, Option<u32>>,
    /// What the engine said last of its cache. A relay that hears nothing assumes otherwise, so each one is told.
    cached: Option<Vec<PrefixHash>>,
    next_key: u64,
    next_check: u32,
    outbox: Outbox,
    outputs: VecDeque<Output>,
    ignored: u64,
}

impl NodeSession {
    /// A node that wants to dial: [`Output::Connect`] is waiting. `seed` decides the pauses between connections.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        Self {
            backoff: Backoff::new(config.backoff_ms_min, config.backoff_ms_max),
            config,
            rng: ChaCha8Rng::from_seed(seed),
            now: 0,
            link: Link::Dialling,
            is_draining: false,
            sent_at: 0,
            jobs: BTreeMap::new(),
            aliases: BTreeMap::new(),
            promised: Vec::new(),
            checks: BTreeMap::new(),
            cached: None,
            next_key: 1,
            next_check: 1,
            outbox: Outbox::default(),
            outputs: VecDeque::from([Output::Connect]),
            ignored: 0,
        }
    }

    /// Takes one input. Drain [`Self::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Millis, input: Input<'_>) {
        self.now = self.now.max(now);
        if self.link == Link::Ended {
            self.ignored += 1;
            return;
        }
        match input {
            Input::Connected => self.connected(),
            Input::Text(text) => self.relay_text(text),
            // Version 1 has no binary messages in this direction.
            Input::Binary(_) => {
                self.heard();
                self.ignored += 1;
            }
            Input::Closed { code } => self.closed(code),
            Input::Busy => self.outbox.is_busy = true,
            Input::Writable => self.outbox.is_busy = false,
            Input::Engine(event) => self.engine_said(event),
            Input::DrainRequested => self.drain(),
            Input::DrainTimeOver => self.hand_back(),
            Input::Tick => {
                self.tick_link();
                self.tick_jobs();
            }
        }
        self.end_if_drained();
        self.check_outbox();
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.poll_outbox().or_else(|| self.outputs.pop_front())
    }

    /// When [`Input::Tick`] is due at the latest.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let dues = [self.link_due(), self.jobs_due(), self.outbox.due()];
        dues.into_iter().flatten().min()
    }

    /// Jobs that are not done, with a connection or without.
    pub fn job_count(&self) -> usize {
        let running = self.jobs.values().filter(|job| job.holds_slot());
        running.count()
    }

    /// Answer bytes kept because no client acknowledged them yet.
    pub fn unacknowledged_bytes(&self) -> usize {
        self.jobs.values().map(|job| job.stream.bytes()).sum()
    }

    /// Messages and events that were not understood or named nothing of ours.
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }
}
