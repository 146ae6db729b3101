//! The world of one seed: everybody in it, the clock, and what is due.

mod client;
mod faults;
mod intruder;
mod lies;
mod node;
mod relay;
mod wires;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use protocol::JobId;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::client::Client;
use self::node::Node;
use self::relay::Relay;
use crate::invariant::Judge;
use crate::network::{Conn, ConnId, End};
use crate::observation::Observation;
use crate::planted::Plant;
use crate::scenario::Scenario;
use crate::script::Script;
use crate::trace::Trace;
use crate::{Millis, Violation};

/// More than ever happens within a millisecond: a world that goes round in circles ends here.
const EVENTS_AT_ONCE_MAX: u64 = 50_000;

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A message arrives.
    Arrive { conn: ConnId, to: End },
    /// An end hears that its connection is over.
    Ended { conn: ConnId, at: End, code: u16 },
    /// A dial reaches the relay.
    Dialled { conn: ConnId },
    /// The peer hears that its dial was taken.
    Opened { conn: ConnId },
    /// The relay's timer.
    RelayTick,
    /// A peer's timer: nodes first, then clients.
    PeerTick { peer: usize },
    /// A decode step.
    Step { node: usize, life: u32 },
    /// A client's heartbeat.
    Heartbeat { conn: ConnId },
    /// A user asks for the answer of a job.
    Ask { job: usize },
    /// A user stops a job.
    Stop { job: usize },
    /// Something goes wrong.
    Fault { number: usize },
    /// A program that was dead is started.
    Start { peer: usize },
    /// A program that stood still goes on.
    Wake { peer: usize },
    /// An engine that stood still goes on.
    EngineWakes { node: usize },
    /// The relay is back.
    RelayBack,
    /// The intruder tries something.
    Intrude { client: usize },
    /// Nothing goes wrong any more.
    TroubleOver,
}

impl Event {
    /// Whose program has to run for it, where it is a peer's.
    const fn is_for(self, conns: &[Conn]) -> Option<usize> {
        match self {
            Self::Arrive {
                conn,
                to: End::Peer,
            }
            | Self::Ended {
                conn,
                at: End::Peer,
                ..
            }
            | Self::Opened { conn }
            | Self::Heartbeat { conn } => Some(conns[conn.0].peer),
            Self::PeerTick { peer } => Some(peer),
            Self::Step { node, .. } => Some(node),
            Self::Intrude { .. }
            | Self::Arrive { .. }
            | Self::Ended { .. }
            | Self::Dialled { .. }
            | Self::RelayTick
            | Self::Ask { .. }
            | Self::Stop { .. }
            | Self::Fault { .. }
            | Self::Start { .. }
            | Self::Wake { .. }
            | Self::EngineWakes { .. }
            | Self::RelayBack
            | Self::TroubleOver => None,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Due {
    at: Millis,
    number: u64,
    event: Event,
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Everybody.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Rc<Scenario>,
    pub(crate) plant: Option<Plant>,
    pub(crate) now: Millis,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) conns: Vec<Conn>,
    pub(crate) relay: Relay,
    pub(crate) nodes: Vec<Node>,
    pub(crate) clients: Vec<Client>,
    pub(crate) scripts: Rc<BTreeMap<JobId, Rc<Script>>>,
    pub(crate) trace: Trace,
    pub(crate) judge: Judge,
    due: BinaryHeap<Reverse<Due>>,
    next_number: u64,
    /// Events within this millisecond.
    at_once: u64,
}

impl World {
    /// Everybody in their places, nothing begun.
    pub(crate) fn new(
        seed: u64,
        scenario: Scenario,
        plant: Option<Plant>,
        lines_max: usize,
    ) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x0DD5_EED5);
        let mut scripts = BTreeMap::new();
        for job in &scenario.jobs {
            scripts.insert(job.id, Script::new(job.shape, &mut rng));
        }
        let scenario = Rc::new(scenario);
        let scripts = Rc::new(scripts);
        let mut world = Self {
            plant,
            now: 0,
            conns: Vec::new(),
            relay: Relay::new(&scenario, &mut rng),
            nodes: Node::all(&scenario, plant),
            clients: Client::all(&scenario),
            trace: Trace::new(lines_max),
            judge: Judge::new(Rc::clone(&scenario), Rc::clone(&scripts)),
            scripts,
            scenario,
            rng,
            due: BinaryHeap::new(),
            next_number: 0,
            at_once: 0,
        };
        world.schedule();
        world
    }

    fn schedule(&mut self) {
        let scenario = Rc::clone(&self.scenario);
        self.relay_starts();
        for (peer, node) in scenario.nodes.iter().enumerate() {
            self.at(node.starts_at, Event::Start { peer });
        }
        for client in 0..scenario.clients.len() {
            let peer = self.nodes.len() + client;
            self.at(client as u64 * 7, Event::Start { peer });
        }
        for (number, job) in scenario.jobs.iter().enumerate() {
            self.at(job.at, Event::Ask { job: number });
            if let Some(after) = job.cancelled_after {
                self.at(job.at + after, Event::Stop { job: number });
            }
        }
        for (number, (at, _)) in scenario.faults.iter().enumerate() {
            self.at(*at, Event::Fault { number });
        }
        self.at(scenario.trouble_ms, Event::TroubleOver);
    }

    /// Lets everything happen. What went against an invariant, if anything did.
    pub(crate) fn run(&mut self) -> Option<Violation> {
        while let Some(Reverse(due)) = self.due.pop() {
            if due.at > self.scenario.end_ms || (self.is_settled() && due.at > self.quiet_from()) {
                break;
            }
            self.at_once = if due.at > self.now {
                0
            } else {
                self.at_once + 1
            };
            self.now = self.now.max(due.at);
            if self.at_once > EVENTS_AT_ONCE_MAX {
                let sentence = format!("time stands still at {:?}", due.event);
                self.judge.object("time goes on", sentence);
            }
            self.handle(due.event);
            if let Some(violation) = self.judge.violation() {
                return Some(violation);
            }
        }
        self.now = self.now.max(self.scenario.trouble_ms);
        self.see(&Observation::Over);
        self.judge.violation()
    }

    /// Whether nobody waits for anything.
    fn is_settled(&self) -> bool {
        self.now > self.scenario.trouble_ms && self.judge.is_settled()
    }

    /// A little after the end of the trouble, so that what is left over shows.
    fn quiet_from(&self) -> Millis {
        let config = &self.scenario.config;
        self.judge.settled_at().max(self.scenario.trouble_ms)
            + 2 * config.lease_ms
            + config.grace_ms
    }

    pub(crate) fn at(&mut self, at: Millis, event: Event) {
        let number = self.next_number;
        self.next_number += 1;
        self.due.push(Reverse(Due {
            at: at.max(self.now),
            number,
            event,
        }));
    }

    pub(crate) fn after(&mut self, ms: Millis, event: Event) {
        self.at(self.now + ms, event);
    }

    fn handle(&mut self, event: Event) {
        if let Some(peer) = event.is_for(&self.conns)
            && self.is_stalled(peer)
        {
            self.postpone(peer, event);
            return;
        }
        match event {
            Event::Arrive { conn, to } => self.arrive(conn, to),
            Event::Ended { conn, at, code } => self.ended(conn, at, code),
            Event::Dialled { conn } => self.dialled(conn),
            Event::Opened { conn } => self.opened(conn),
            Event::RelayTick => self.relay_ticks(),
            Event::PeerTick { peer } if self.is_node(peer) => self.node_ticks(peer),
            Event::PeerTick { peer } => self.client_ticks(peer - self.nodes.len()),
            Event::Step { node, life } => self.engine_steps(node, life),
            Event::Heartbeat { conn } => self.client_beats(conn),
            Event::Ask { job } => self.user_asks(job),
            Event::Stop { job } => self.user_stops(job),
            Event::Fault { number } => self.goes_wrong(number),
            Event::Start { peer } if self.is_node(peer) => self.node_starts(peer),
            Event::Start { peer } => self.client_starts(peer - self.nodes.len()),
            Event::Wake { peer } => self.wakes(peer),
            Event::EngineWakes { node } => self.engine_wakes(node),
            Event::RelayBack => self.relay_starts(),
            Event::Intrude { client } => self.intrude(client),
            Event::TroubleOver => self.trouble_over(),
        }
    }

    pub(crate) const fn is_node(&self, peer: usize) -> bool {
        peer < self.nodes.len()
    }

    /// Shows the judge something.
    pub(crate) fn see(&mut self, what: &Observation<'_>) {
        self.judge.see(self.now, what);
    }
}
