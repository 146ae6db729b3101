//! A node's brain: handshake, heartbeat, slots, resend buffers, drain. Shared by every class of node. Sans-IO: the caller
//! owns the socket, the clock and the engine.
//!
//! ```text
//!            ┌─────────────────── NodeSession ───────────────────┐
//! relay ───▶ │ link: dial, hello, heartbeat, back-off            │ ─▶ Connect, Send, SendBinary, CloseSocket
//!            │ relay: assign, cancel, acknowledge ──▶ job ◀──┐   │ ─▶ Start, Stop
//! engine ──▶ │ engine: accepted, step, finished ─────────────┘   │ ─▶ Exit
//!            └───────────────────────────────────────────────────┘
//! ```
//!
//! Invariant: after every [`NodeSession::handle_input`] (and after [`NodeSession::new`]), drain
//! [`NodeSession::poll_output`] until `None`. Then the engine has at most `slots` jobs, and every job the relay assigned
//! is running, stopping, waiting for a place, or has been answered with exactly one `completed`, `failed` or `cancelled`.
//!
//! Nothing that the relay or the engine can say panics.

mod backoff;
mod buffer;
mod config;
mod engine;
mod input;
mod job;
mod link;
mod output;
mod relay;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use protocol::Alias;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use crate::config::Config;
pub use crate::input::{Advance, EngineEvent, Input, JobKey};
pub use crate::output::{End, Output};

use crate::backoff::Backoff;
use crate::job::{Finished, Job};
use crate::link::Link;

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
    finished: BTreeMap<Alias, Finished>,
    next_key: u64,
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
            finished: BTreeMap::new(),
            next_key: 1,
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
            Input::Engine(event) => self.engine_said(event),
            Input::DrainRequested => self.drain(),
            Input::Tick => {
                self.tick_link();
                self.tick_finished();
            }
        }
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due at the latest.
    pub fn poll_timeout(&self) -> Option<Millis> {
        let kept = self.finished.values().map(|kept| kept.until).min();
        self.link_due().into_iter().chain(kept).min()
    }

    /// Jobs that the relay knows to be here.
    pub fn job_count(&self) -> usize {
        self.aliases.len()
    }

    /// Answer bytes kept because no client acknowledged them yet.
    pub fn unacknowledged_bytes(&self) -> usize {
        let running = self.jobs.values().map(|job| job.buffer.bytes());
        let finished = self.finished.values().map(|kept| kept.buffer.bytes());
        running.chain(finished).sum()
    }

    /// Messages and events that were not understood or named nothing of ours.
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }
}
