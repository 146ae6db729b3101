//! The relay's brain: who is connected, who waits, who works, and who hears what. Sans-IO: the caller owns sockets, clock
//! and randomness, and decides nothing.
//!
//! ```text
//!                 ┌───────────────────────── Scheduler ─────────────────────────┐
//! ClientSaid ───▶ │ submit ─▶ queue ─▶ placement ─▶ attempt ─▶ finished          │ ─▶ ToClient, TokensToClient
//! NodeSaid   ───▶ │            ▲                      │  │                       │ ─▶ ToNode
//! NodeTokens ───▶ │            └── lost, untold yet ──┘  └─ tokens ─▶ client     │ ─▶ CloseClient, CloseNode
//! Tick       ───▶ │ timers: leases, grace, silence                              │
//!                 └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariant: after every [`Scheduler::handle_input`], drain [`Scheduler::poll_output`] until `None`. Then
//! - no job waits that a free node of any of its models could do (work is conserved),
//! - no node has more attempts than slots,
//! - every job taken in waits, runs, or has ended with exactly one `completed` or `failed` to its client.
//!
//! The same inputs, times and seed give the same outputs. Nothing that a peer can say panics.

mod affinity;
mod announce;
mod attempts;
mod checks;
mod clients;
mod config;
mod ends;
mod fairness;
mod flow;
mod groups;
mod input;
mod job;
mod karma;
mod measure;
mod models;
mod nodes;
mod output;
mod placement;
mod places;
mod queue;
mod recent;
mod registry;
mod resume;
mod slots;
mod standing;
mod submit;
mod tickets;
mod time;
mod timers;
mod tokens;
mod waits;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use protocol::{Alias, JobId, RelayToClient, RelayToNode};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[cfg(feature = "planted-bugs")]
pub use crate::config::PlantedBug;
pub use crate::config::{Config, ModelEntry, TierEntry};
pub use crate::input::{Input, NodeHello};
pub use crate::karma::{Fault, Outcome};
pub use crate::output::{Counters, ModelAvailability, NodeSpeed, Output};
pub use crate::tickets::Secret;

use crate::affinity::Affinity;
use crate::checks::Checks;
use crate::flow::Load;
use crate::job::{Announced, Attempt, Finished, Job};
use crate::karma::Karma;
use crate::models::{Model, ModelIndex, Models};
use crate::places::Lines;
use crate::queue::{Account, Ticket};
use crate::recent::RecentlyEnded;
use crate::registry::{Client, Node};
use crate::tickets::Signer;
use crate::timers::Timers;

/// Milliseconds of the caller's monotonic clock.
pub type Millis = u64;

/// A connection, unique among clients and nodes while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u32);

/// Jobs of an earlier life of the relay stand before all others: they get the numbers below this one.
pub(crate) const FRESH_TICKETS: Ticket = 1 << 62;

/// One pool's state. Nothing of it is ever written down.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    rng: ChaCha8Rng,
    now: Millis,
    clients: BTreeMap<SocketId, Client>,
    clients_seen: u64,
    nodes: BTreeMap<SocketId, Node>,
    models: Models,
    jobs: BTreeMap<JobId, Job>,
    attempts: BTreeMap<Alias, Attempt>,
    finished: BTreeMap<JobId, Finished>,
    announced: BTreeMap<JobId, Announced>,
    recently_ended: RecentlyEnded,
    signer: Signer,
    /// Between two losses of memory; another one has another number.
    life: u64,
    load: Load,
    timers: Timers,
    checks: Checks,
    karma: Karma,
    affinity: Affinity,
    /// Nodes that ever joined.
    nodes_joined: u32,
    /// Models whose queue or free nodes changed during this input: dispatch looks at them.
    dirty: BTreeSet<ModelIndex>,
    content_bytes: usize,
    /// Answers that are over and not acknowledged: room that may be taken from them.
    finished_bytes: usize,
    finished_order: BTreeSet<(Millis, JobId)>,
    next_alias: Alias,
    next_ticket: Ticket,
    next_returning: Ticket,
    /// How many jobs wait.
    waiting: usize,
    /// How many of them are each account's; never 0.
    accounts: BTreeMap<Account, usize>,
    lines: Lines,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl Scheduler {
    /// An empty pool. `seed` decides every draw.
    pub fn new(config: Config, seed: [u8; 32], now: Millis) -> Self {
        let mut config = config.bounded();
        let signer = Signer::new(std::mem::take(&mut config.secrets));
        let life = life(&seed, now);
        let mut rng = ChaCha8Rng::from_seed(seed);
        Self {
            models: Models::new(&config),
            karma: Karma::new(rng.next_u64()),
            affinity: Affinity::new(rng.next_u64(), config.affinity_prefixes_max),
            nodes_joined: 0,
            config,
            next_alias: rng.next_u32(),
            rng,
            now,
            clients: BTreeMap::new(),
            clients_seen: 0,
            nodes: BTreeMap::new(),
            jobs: BTreeMap::new(),
            attempts: BTreeMap::new(),
            finished: BTreeMap::new(),
            announced: BTreeMap::new(),
            recently_ended: RecentlyEnded::default(),
            signer,
            life,
            load: Load::default(),
            timers: Timers::default(),
            checks: Checks::default(),
            dirty: BTreeSet::new(),
            content_bytes: 0,
            finished_bytes: 0,
            finished_order: BTreeSet::new(),
            next_ticket: FRESH_TICKETS,
            next_returning: 0,
            waiting: 0,
            accounts: BTreeMap::new(),
            lines: Lines::default(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes one input. Drain [`Self::poll_output`] afterwards.
    pub fn handle_input(&mut self, now: Millis, input: Input<'_>) {
        self.now = self.now.max(now);
        match input {
            Input::ClientJoined { socket, account } => self.client_joined(socket, account),
            Input::ClientRestored {
                socket,
                account,
                heard_at,
            } => self.client_restored(socket, &account, heard_at),
            Input::ClientSaid {
                socket,
                message,
                bytes,
            } => self.client_said(socket, message, bytes),
            Input::ClientLeft { socket } => self.client_left(socket),
            Input::NodeJoined {
                socket,
                account,
                hello,
            } => self.node_joined(socket, account, hello),
            Input::NodeRestored {
                socket,
                account,
                hello,
                heard_at,
                draining,
            } => {
                self.register_node(socket, account, hello, heard_at, draining);
            }
            Input::NodeSaid { socket, message } => self.node_said(socket, message),
            Input::NodeTokens { socket, frame } => self.node_tokens(socket, frame),
            Input::NodeLeft { socket } => self.node_left(socket),
            Input::Heard { socket, at } => self.heard(socket, at),
            Input::Tick => self.tick(),
        }
        self.settle_input();
    }

    /// What every change may lead to.
    fn settle_input(&mut self) {
        self.dispatch();
        self.ask_about_prompts();
        self.tell_places();
    }

    /// Signs tickets with the first of these from now on, and trusts them all.
    pub fn trust(&mut self, secrets: Vec<Secret>) {
        self.signer = Signer::new(secrets);
    }

    /// The next thing to do, if any.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due at the latest; may be in the past. `None`: nothing falls due by itself, although
    /// jobs may wait for a node. A shell that must then keep its memory ([`Self::is_busy`]) needs a timer of its own.
    pub fn poll_timeout(&self) -> Option<Millis> {
        self.timers.next()
    }

    /// Whether a job waits or runs, or a node has still to stop: memory must not be lost now.
    pub fn is_busy(&self) -> bool {
        !self.jobs.is_empty()
            || !self.attempts.is_empty()
            || !self.announced.is_empty()
            || !self.finished.is_empty()
    }

    /// Whether a request of this length can be held.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.content_bytes
            .checked_add(bytes)
            .is_some_and(|held| held <= self.config.content_bytes_max)
    }

    /// Sets memory aside for a request that a client announced, in the place of what this client announced before. It
    /// is given back when the client submits, whatever becomes of that, and when it leaves. `false`: there is no such
    /// client, or no room, and what it announced before stays.
    pub fn reserve(&mut self, socket: SocketId, bytes: usize) -> bool {
        let Some(client) = self.clients.get_mut(&socket) else {
            return false;
        };
        let held = (self.content_bytes - client.reserved)
            .checked_add(bytes)
            .filter(|held| *held <= self.config.content_bytes_max);
        let Some(held) = held else { return false };
        self.content_bytes = held;
        client.reserved = bytes;
        self.trim_finished();
        true
    }

    /// What can be had of each model now, in the catalog's order.
    pub fn availability(&self) -> Vec<ModelAvailability> {
        self.models
            .iter()
            .map(|(_, model)| availability_of(model))
            .collect()
    }

    /// How fast a connected node is.
    pub fn node_speeds(&self, node: SocketId) -> Vec<NodeSpeed> {
        let offers = self.nodes.get(&node).map(|node| node.offers.iter());
        let speed = |(model, offer): (ModelIndex, &registry::Offer)| NodeSpeed {
            model: self.models[model].entry.id.clone(),
            prefill: offer.speed.prefill(),
            decode: offer.speed.decode(),
        };
        offers.into_iter().flatten().map(speed).collect()
    }

    /// What happened since the start.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Nobody is told anything on a socket that is not there.
    fn tell_client(&mut self, socket: SocketId, message: RelayToClient) {
        if self.clients.contains_key(&socket) {
            self.outputs.push_back(Output::ToClient { socket, message });
        }
    }

    fn tell_node(&mut self, socket: SocketId, message: RelayToNode) {
        if self.nodes.contains_key(&socket) {
            self.outputs.push_back(Output::ToNode { socket, message });
        }
    }
}

/// Seeds are drawn; time helps where they are not.
fn life(seed: &[u8; 32], now: Millis) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, now).hash(&mut hasher);
    hasher.finish()
}

fn availability_of(model: &Model) -> ModelAvailability {
    let totals = model.totals();
    ModelAvailability {
        model: model.entry.id.clone(),
        nodes: totals.nodes,
        slots: totals.slots,
        free_slots: totals.free_slots,
        queued: u32::try_from(model.queue.len()).unwrap_or(u32::MAX),
        context_tokens: model.context_max().unwrap_or(0),
        decode_tokens_per_second: totals.mean_decode().unwrap_or(0.0),
    }
}
