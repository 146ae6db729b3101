//! A node's machine: a real session, a fake engine, a skewed clock.

use std::collections::VecDeque;
use std::rc::Rc;

use node_session::{Config, EngineEvent, Input, NodeSession, Output};
use protocol::limits::RELAY_FRAME_BYTES_MAX;
use protocol::{NodeClass, RelayToNode, decode, encode};
use rand::RngExt;

use crate::Millis;
use crate::engine::{Defects, FakeEngine};
use crate::network::{ConnId, End, Message};
use crate::observation::Observation;
use crate::planted::Plant;
use crate::scenario::{Lie, Scenario, Skew};
use crate::world::lies::Memory;
use crate::world::{Event, World};

/// A node that ended by itself is started again after this, as an operator's supervisor does.
const SUPERVISED_MS: Millis = 1_000;

/// A machine.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) session: Option<NodeSession>,
    pub(crate) engine: FakeEngine,
    pub(crate) conn: Option<ConnId>,
    pub(crate) lie: Option<Lie>,
    pub(crate) memory: Memory,
    pub(crate) is_stalled: bool,
    pub(crate) engine_hangs: bool,
    pub(crate) parted_until: Millis,
    /// A drained node comes back then.
    pub(crate) back_after: Millis,
    /// Which program this is: a step of an earlier one means nothing.
    life: u32,
    is_stepping: bool,
    tick_at: Option<Millis>,
    skew: Skew,
    step_ms: Millis,
    slots: usize,
    pub(crate) inbox: VecDeque<Event>,
}

impl Node {
    pub(crate) fn all(scenario: &Scenario, plant: Option<Plant>) -> Vec<Self> {
        let nodes = scenario.nodes.iter();
        nodes
            .map(|plan| Self {
                session: None,
                engine: FakeEngine::new(Defects {
                    says_other_text: plan.lie == Some(Lie::Text),
                    restarts_continued: plant == Some(Plant::ContinuationRestarts),
                }),
                conn: None,
                lie: plan.lie,
                memory: Memory::default(),
                is_stalled: false,
                engine_hangs: false,
                parted_until: 0,
                back_after: SUPERVISED_MS,
                life: 0,
                is_stepping: false,
                tick_at: None,
                skew: plan.skew,
                step_ms: plan.step_ms,
                slots: usize::try_from(plan.slots).unwrap_or(0),
                inbox: VecDeque::new(),
            })
            .collect()
    }
}

impl World {
    /// The program starts.
    pub(crate) fn node_starts(&mut self, node: usize) {
        if self.nodes[node].session.is_some() {
            return;
        }
        let plan = &self.scenario.nodes[node];
        let config = Config {
            name: plan.name.clone(),
            class: NodeClass::Rig,
            software: "fake 1".into(),
            slots: plan.slots,
            models: plan.offers.clone(),
            key: None,
            backoff_ms_min: Config::BACKOFF_MS_MIN,
            backoff_ms_max: Config::BACKOFF_MS_MAX,
            machine: None,
        };
        let seed = self.rng.random();
        let machine = &mut self.nodes[node];
        machine.engine = FakeEngine::new(machine.engine.defects);
        machine.session = Some(NodeSession::new(config, seed));
        machine.back_after = SUPERVISED_MS;
        machine.life += 1;
        machine.is_stepping = false;
        self.trace.event(self.now, 7, node as u64, &[]);
        self.trace.line(self.now, || format!("peer {node} starts"));
        self.see(&Observation::NodeStarts { node });
        self.node_acts(node);
    }

    /// The program dies.
    pub(crate) fn node_dies(&mut self, node: usize, is_silent: bool, back_after: Millis) {
        let machine = &mut self.nodes[node];
        if machine.session.take().is_none() {
            return;
        }
        machine.engine = FakeEngine::new(machine.engine.defects);
        machine.life += 1;
        machine.inbox.clear();
        machine.tick_at = None;
        machine.is_stalled = false;
        self.trace.line(self.now, || format!("peer {node} dies"));
        self.see(&Observation::NodeDies { node });
        if let Some(conn) = self.nodes[node].conn.take() {
            self.abandon(conn, is_silent);
        }
        self.after(back_after, Event::Start { peer: node });
    }

    /// A program is gone without closing its socket; the machine resets it, unless it is gone too.
    pub(crate) fn abandon(&mut self, id: ConnId, is_silent: bool) {
        let conn = &mut self.conns[id.0];
        conn.is_open_at_peer = false;
        conn.cut(End::Peer);
        if is_silent {
            conn.finish(End::Relay);
        } else {
            self.hang_up(id, End::Peer, super::wires::ABNORMAL);
        }
    }

    pub(crate) fn node_connected(&mut self, node: usize, conn: ConnId) {
        if self.nodes[node].conn == Some(conn) {
            self.node_input(node, Input::Connected);
        }
    }

    pub(crate) fn node_loses(&mut self, node: usize, conn: ConnId, code: u16) {
        if self.nodes[node].conn != Some(conn) {
            return;
        }
        self.nodes[node].conn = None;
        self.see(&Observation::NodeCut { node, code });
        let code = (code != super::wires::ABNORMAL).then_some(code);
        self.node_input(node, Input::Closed { code });
    }

    pub(crate) fn node_hears(&mut self, node: usize, conn: ConnId, message: Message) {
        if self.nodes[node].conn != Some(conn) {
            return;
        }
        match message {
            Message::Binary(frame) => self.node_input(node, Input::Binary(&frame)),
            Message::Text(text) => match decode::<RelayToNode>(&text, RELAY_FRAME_BYTES_MAX) {
                Ok(message) => self.node_hears_message(node, text, message),
                Err(_) => self.node_input(node, Input::Text(&text)),
            },
        }
    }

    fn node_hears_message(&mut self, node: usize, mut text: String, mut message: RelayToNode) {
        if let Some(session) = &self.nodes[node].session {
            let hears = Observation::NodeHears {
                node,
                message: &message,
                session,
            };
            self.judge.see(self.now, &hears);
        }
        if !self.lie_about_heard(node, &mut message) {
            return;
        }
        let mut is_bent = self.nodes[node].lie.is_some();
        if let Some(plant) = self.plant {
            is_bent |= plant.bend_heard(&mut message);
        }
        if is_bent {
            text = encode(&message);
        }
        self.node_input(node, Input::Text(&text));
    }

    pub(crate) fn node_input(&mut self, node: usize, input: Input<'_>) {
        let machine = &mut self.nodes[node];
        let now = machine.skew.local(self.now);
        let Some(session) = &mut machine.session else {
            return;
        };
        session.handle_input(now, input);
        self.node_acts(node);
    }

    /// Does what the session wants.
    fn node_acts(&mut self, node: usize) {
        while let Some(output) = self.nodes[node]
            .session
            .as_mut()
            .and_then(NodeSession::poll_output)
        {
            self.node_acts_on(node, output);
        }
        let machine = &self.nodes[node];
        if let Some(session) = &machine.session {
            let rests = Observation::NodeRests {
                node,
                session,
                engine: &machine.engine,
            };
            self.judge.see(self.now, &rests);
        }
        self.arm_node(node);
        self.arm_engine(node);
    }

    fn node_acts_on(&mut self, node: usize, output: Output) {
        match output {
            Output::Connect => {
                self.drop_conn_of_node(node, 1000);
                let conn = self.dial(node);
                self.nodes[node].conn = Some(conn);
            }
            Output::Send(text) => self.node_says(node, Message::Text(text)),
            Output::SendBinary(frame) => self.node_says(node, Message::Binary(frame)),
            Output::CloseSocket { code } => self.drop_conn_of_node(node, code),
            Output::Start {
                key,
                job,
                model,
                answer,
                ..
            } => self.engine_starts(node, key, job, model, answer.as_deref()),
            Output::Pause { key } => self.nodes[node].engine.pause(key, true),
            Output::Unpause { key } => self.nodes[node].engine.pause(key, false),
            Output::Stop { key } => self.nodes[node].engine.stop(key),
            Output::Check { check, .. } => {
                self.node_input(node, Input::Engine(FakeEngine::check(check)));
            }
            Output::Welcomed { .. } => self.node_is_welcome(node),
            Output::Refused(failure) => {
                self.see(&Observation::NodeRefused {
                    node,
                    failure: &failure,
                });
            }
            Output::Exit(end) => {
                self.trace
                    .line(self.now, || format!("peer {node} exits: {end}"));
                self.see(&Observation::NodeExits { node, end });
                let back_after = self.nodes[node].back_after;
                self.drop_conn_of_node(node, 1000);
                let machine = &mut self.nodes[node];
                machine.session = None;
                machine.life += 1;
                machine.engine = FakeEngine::new(machine.engine.defects);
                self.after(back_after, Event::Start { peer: node });
            }
        }
    }

    fn drop_conn_of_node(&mut self, node: usize, code: u16) {
        if let Some(conn) = self.nodes[node].conn.take() {
            self.hang_up(conn, End::Peer, code);
        }
    }

    /// Sends what the session says, or what a liar makes of it.
    fn node_says(&mut self, node: usize, message: Message) {
        let Some(conn) = self.nodes[node].conn else {
            return;
        };
        if self.nodes[node].lie.is_none() {
            let message = match (self.plant, message) {
                (Some(plant), Message::Text(text)) => Message::Text(plant.bend_said(text)),
                (_, message) => message,
            };
            self.send(conn, End::Relay, message);
            return;
        }
        for message in self.lie_about_said(node, message) {
            self.send(conn, End::Relay, message);
        }
    }

    fn engine_starts(
        &mut self,
        node: usize,
        key: node_session::JobKey,
        job: protocol::JobId,
        model: String,
        answer: Option<&protocol::Answer>,
    ) {
        let Some(script) = self.scripts.get(&job).map(Rc::clone) else {
            self.judge.object(
                "no foreign job",
                "an engine was given a job that nobody asked for",
            );
            return;
        };
        let engine = &mut self.nodes[node].engine;
        let complaint = engine.start(key, model, script, answer).err();
        let load = engine.load();
        self.see(&Observation::EngineStarts {
            node,
            job,
            complaint: complaint.as_deref(),
            load,
            slots: self.nodes[node].slots,
        });
    }

    pub(crate) fn engine_steps(&mut self, node: usize, life: u32) {
        let machine = &mut self.nodes[node];
        if machine.life != life {
            return;
        }
        machine.is_stepping = false;
        if machine.engine_hangs {
            return;
        }
        let events = machine.engine.step();
        self.trace.event(self.now, 8, node as u64, &[]);
        for event in events {
            self.engine_says(node, event);
        }
        self.arm_engine(node);
    }

    fn engine_says(&mut self, node: usize, event: EngineEvent) {
        self.see(&Observation::EngineSays {
            node,
            event: &event,
        });
        self.node_input(node, Input::Engine(event));
    }

    pub(crate) fn engine_wakes(&mut self, node: usize) {
        self.nodes[node].engine_hangs = false;
        self.arm_engine(node);
    }

    /// The next decode step, while there is anything to do.
    fn arm_engine(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        if machine.is_stepping || machine.engine_hangs || !machine.engine.has_work() {
            return;
        }
        machine.is_stepping = true;
        let (life, step_ms) = (machine.life, machine.step_ms);
        self.after(step_ms, Event::Step { node, life });
    }

    pub(crate) fn node_ticks(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        let Some(due) = machine.tick_at.take() else {
            return;
        };
        if due > self.now {
            machine.tick_at = Some(due);
            return;
        }
        self.trace.event(self.now, 9, node as u64, &[]);
        self.node_input(node, Input::Tick);
    }

    fn arm_node(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        let Some(due) = machine.session.as_ref().and_then(NodeSession::poll_timeout) else {
            return;
        };
        let at = machine.skew.world(due).max(self.now);
        if machine.tick_at.is_none_or(|tick_at| at < tick_at) {
            machine.tick_at = Some(at);
            self.at(at, Event::PeerTick { peer: node });
        }
    }
}
