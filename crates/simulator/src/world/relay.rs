//! The relay's shell, as `edge-relay` has it: sockets, first frames, the clock, and the table from event to input and from
//! output to action. No decision is taken here.

use std::collections::BTreeMap;

use protocol::limits::{CLIENT_FRAME_BYTES_MAX, NODE_FRAME_BYTES_MAX};
use protocol::{ClientToRelay, CloseCode, NodeToRelay, RelayToClient, RelayToNode, decode, encode};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use scheduler::{Input, NodeHello, Output, Scheduler, SocketId};

use crate::Millis;
use crate::network::{ConnId, End, Message};
use crate::observation::Observation;
use crate::planted::Plant;
use crate::scenario::Scenario;
use crate::world::wires::ABNORMAL;
use crate::world::{Event, World};

/// A socket that the relay has open.
#[derive(Debug, Clone, Copy)]
struct Socket {
    conn: ConnId,
    peer: usize,
    is_node: bool,
    has_joined: bool,
}

/// The relay's machine.
#[derive(Debug)]
pub(crate) struct Relay {
    scheduler: Option<Scheduler>,
    sockets: BTreeMap<SocketId, Socket>,
    by_conn: BTreeMap<ConnId, SocketId>,
    next_socket: u32,
    /// What its wall clock shows at the world's zero.
    wall_ms: i64,
    latest: Millis,
    tick_at: Option<Millis>,
    secrets: Vec<scheduler::Secret>,
}

impl Relay {
    pub(crate) fn new(scenario: &Scenario, rng: &mut ChaCha8Rng) -> Self {
        Self {
            scheduler: None,
            sockets: BTreeMap::new(),
            by_conn: BTreeMap::new(),
            next_socket: 0,
            wall_ms: i64::try_from(scenario.wall_ms).unwrap_or(0),
            latest: 0,
            tick_at: None,
            secrets: vec![scheduler::Secret(rng.random())],
        }
    }

    pub(crate) const fn is_up(&self) -> bool {
        self.scheduler.is_some()
    }

    /// Its clock is set.
    pub(crate) const fn set_clock(&mut self, by_ms: i64) {
        self.wall_ms += by_ms;
    }

    /// What its shell tells the brain: never less than before, while it lives.
    fn clock(&mut self, now: Millis) -> Millis {
        let wall = self.wall_ms + i64::try_from(now).unwrap_or(i64::MAX);
        self.latest = self.latest.max(u64::try_from(wall).unwrap_or(0));
        self.latest
    }

    fn world_time(&self, clock: Millis) -> Millis {
        let at = i64::try_from(clock).unwrap_or(i64::MAX) - self.wall_ms;
        u64::try_from(at).unwrap_or(0)
    }
}

impl World {
    /// A fresh program without memory; only the secrets outlive it.
    pub(crate) fn relay_starts(&mut self) {
        if self.relay.is_up() {
            return;
        }
        self.relay.latest = 0;
        let now = self.relay.clock(self.now);
        let mut config = self.scenario.config.clone();
        config.secrets.clone_from(&self.relay.secrets);
        if let Some(plant) = self.plant {
            plant.bend_config(&mut config);
        }
        let scheduler = Scheduler::new(config, self.rng.random(), now);
        self.relay.scheduler = Some(scheduler);
        self.trace.event(self.now, 5, 1, &[]);
        self.trace.line(self.now, || "the relay starts".into());
        self.see(&Observation::RelayStarts);
    }

    /// It dies, and every socket with it; each peer hears of it, now or a little later.
    pub(crate) fn relay_dies(&mut self) {
        self.relay.scheduler = None;
        self.relay.tick_at = None;
        self.trace.event(self.now, 5, 0, &[]);
        self.trace.line(self.now, || "the relay dies".into());
        let sockets = std::mem::take(&mut self.relay.sockets);
        self.relay.by_conn.clear();
        for socket in sockets.into_values() {
            let conn = &mut self.conns[socket.conn.0];
            conn.is_open_at_relay = false;
            conn.cut(End::Relay);
            let after = self.rng.random_range(0..200);
            let (conn, at, code) = (socket.conn, End::Peer, ABNORMAL);
            self.after(after, Event::Ended { conn, at, code });
        }
        self.see(&Observation::RelayDies);
    }

    /// A socket is open. Clients are known by their upgrade request; nodes say hello.
    pub(crate) fn relay_accepts(&mut self, conn: ConnId) {
        let peer = self.conns[conn.0].peer;
        let id = SocketId(self.relay.next_socket);
        self.relay.next_socket += 1;
        let is_node = self.is_node(peer);
        let socket = Socket {
            conn,
            peer,
            is_node,
            has_joined: !is_node,
        };
        self.relay.sockets.insert(id, socket);
        self.relay.by_conn.insert(conn, id);
        if !is_node {
            let client = peer - self.nodes.len();
            let account = self.account_of_client(client);
            self.see(&Observation::ClientJoins { socket: id, client });
            self.drive(Input::ClientJoined {
                socket: id,
                account,
            });
        }
    }

    fn account_of_client(&self, client: usize) -> String {
        let plan = &self.scenario.clients[client];
        match self.plant {
            // What it must never do: take one user for another.
            Some(Plant::ForeignTicketTaken) => "anybody".into(),
            Some(_) | None => plan.account.clone(),
        }
    }

    pub(crate) fn relay_hears(&mut self, conn: ConnId, message: &Message) {
        let Some(&id) = self.relay.by_conn.get(&conn) else {
            return;
        };
        let Some(socket) = self.relay.sockets.get(&id).copied() else {
            return;
        };
        match (message, socket.is_node) {
            (Message::Text(text), false) => match decode(text, CLIENT_FRAME_BYTES_MAX) {
                Ok(message) => self.client_said(id, message, text.len()),
                Err(_) => self.relay_expels(id, CloseCode::ProtocolError),
            },
            (Message::Text(text), true) => match decode(text, NODE_FRAME_BYTES_MAX) {
                Ok(message) => self.node_said(id, socket, message),
                Err(_) => self.relay_expels(id, CloseCode::ProtocolError),
            },
            (Message::Binary(frame), true) if socket.has_joined => {
                self.see(&Observation::NodeTokens { socket: id, frame });
                self.drive(Input::NodeTokens { socket: id, frame });
            }
            (Message::Binary(_), _) => self.relay_expels(id, CloseCode::ProtocolError),
        }
    }

    fn client_said(&mut self, socket: SocketId, message: ClientToRelay, bytes: usize) {
        self.see(&Observation::ClientSaid {
            socket,
            message: &message,
        });
        self.drive(Input::ClientSaid {
            socket,
            message,
            bytes,
        });
    }

    fn node_said(&mut self, id: SocketId, socket: Socket, message: NodeToRelay) {
        if socket.has_joined {
            self.see(&Observation::NodeSaid {
                socket: id,
                message: &message,
            });
            self.drive(Input::NodeSaid {
                socket: id,
                message,
            });
            return;
        }
        let NodeToRelay::Hello {
            name,
            class,
            software,
            slots,
            models,
            announces,
            ..
        } = message
        else {
            self.relay_expels(id, CloseCode::ProtocolError);
            return;
        };
        if let Some(socket) = self.relay.sockets.get_mut(&id) {
            socket.has_joined = true;
        }
        let node = socket.peer;
        self.see(&Observation::NodeJoins {
            socket: id,
            node,
            announces,
        });
        let hello = NodeHello {
            name,
            class,
            software,
            slots,
            models,
            announces,
        };
        self.drive(Input::NodeJoined {
            socket: id,
            account: self.scenario.nodes[node].account.clone(),
            hello,
        });
    }

    /// A socket is over at the relay's end.
    pub(crate) fn relay_loses(&mut self, conn: ConnId) {
        let Some(id) = self.relay.by_conn.remove(&conn) else {
            return;
        };
        let Some(socket) = self.relay.sockets.remove(&id) else {
            return;
        };
        self.see(&Observation::SocketLeaves { socket: id });
        match (socket.is_node, socket.has_joined) {
            (true, true) => self.drive(Input::NodeLeft { socket: id }),
            (true, false) => {}
            (false, _) => self.drive(Input::ClientLeft { socket: id }),
        }
    }

    /// The shell itself will not have this peer.
    fn relay_expels(&mut self, id: SocketId, code: CloseCode) {
        let Some(socket) = self.relay.sockets.get(&id).copied() else {
            return;
        };
        self.relay_loses(socket.conn);
        self.hang_up(socket.conn, End::Relay, code.number());
    }

    pub(crate) fn relay_ticks(&mut self) {
        let Some(due) = self.relay.tick_at.take() else {
            return;
        };
        if due > self.now {
            self.relay.tick_at = Some(due);
            return;
        }
        self.trace.event(self.now, 6, 0, &[]);
        self.drive(Input::Tick);
    }

    /// One step of the table.
    fn drive(&mut self, input: Input<'_>) {
        let now = self.relay.clock(self.now);
        let Some(scheduler) = &mut self.relay.scheduler else {
            return;
        };
        scheduler.handle_input(now, input);
        while let Some(output) = self
            .relay
            .scheduler
            .as_mut()
            .and_then(Scheduler::poll_output)
        {
            self.act(output);
        }
        if let Some(scheduler) = &self.relay.scheduler {
            let rests = Observation::RelayRests { scheduler };
            self.judge.see(self.now, &rests);
        }
        self.arm_relay();
    }

    fn act(&mut self, output: Output) {
        let Some(output) = (match self.plant {
            Some(plant) => plant.bend_output(output),
            None => Some(output),
        }) else {
            return;
        };
        self.see(&Observation::RelaySays(&output));
        match output {
            Output::ToClient { socket, message } => {
                self.relay_tells_client(socket, &message);
            }
            Output::ToNode { socket, message } => self.relay_tells_node(socket, &message),
            Output::TokensToClient { socket, frame } => {
                self.relay_sends(socket, Message::Binary(frame));
            }
            Output::CloseClient { socket, code, .. } | Output::CloseNode { socket, code, .. } => {
                if let Some(gone) = self.relay.sockets.remove(&socket) {
                    self.relay.by_conn.remove(&gone.conn);
                    self.hang_up(gone.conn, End::Relay, code.number());
                }
            }
        }
    }

    fn relay_tells_client(&mut self, socket: SocketId, message: &RelayToClient) {
        self.relay_sends(socket, Message::Text(encode(message)));
    }

    fn relay_tells_node(&mut self, socket: SocketId, message: &RelayToNode) {
        self.relay_sends(socket, Message::Text(encode(message)));
    }

    fn relay_sends(&mut self, socket: SocketId, message: Message) {
        if let Some(socket) = self.relay.sockets.get(&socket) {
            self.send(socket.conn, End::Peer, message);
        }
    }

    /// Its timer.
    pub(crate) fn arm_relay(&mut self) {
        let Some(due) = self
            .relay
            .scheduler
            .as_ref()
            .and_then(Scheduler::poll_timeout)
        else {
            return;
        };
        let at = self.relay.world_time(due).max(self.now);
        if self.relay.tick_at.is_none_or(|tick_at| at < tick_at) {
            self.relay.tick_at = Some(at);
            self.at(at, Event::RelayTick);
        }
    }
}
