//! Dialling, sending, arriving, breaking.

use crate::Millis;
use crate::network::{Conn, ConnId, End, Message};
use crate::scenario::Break;
use crate::world::{Event, World};

/// No close frame: RFC 6455 §7.1.5.
pub(crate) const ABNORMAL: u16 = 1006;

/// A dial into nothing fails after this.
const DIAL_MS: Millis = 3_000;

impl World {
    /// A peer dials; whether that works shows later.
    pub(crate) fn dial(&mut self, peer: usize) -> ConnId {
        let (latency, jitter) = (self.scenario.latency_ms, self.scenario.jitter_ms);
        let id = ConnId(self.conns.len());
        self.conns.push(Conn::new(peer, latency, jitter));
        let parted_until = self.parted_until(peer);
        let client = peer.checked_sub(self.nodes.len());
        let reads_per_ms = client.map_or(0, |client| self.clients[client].reads_per_ms);
        let conn = &mut self.conns[id.0];
        conn.hold(End::Peer, parted_until);
        conn.hold(End::Relay, parted_until);
        conn.reads_per_ms = reads_per_ms;
        if parted_until > self.now + DIAL_MS {
            let (at, code) = (End::Peer, ABNORMAL);
            self.after(DIAL_MS, Event::Ended { conn: id, at, code });
        } else {
            let reaches = (self.now + 2 * latency + 1).max(parted_until);
            self.at(reaches, Event::Dialled { conn: id });
        }
        id
    }

    /// The dial is at the relay.
    pub(crate) fn dialled(&mut self, id: ConnId) {
        let latency = self.scenario.latency_ms;
        if !self.relay.is_up() {
            let (at, code) = (End::Peer, ABNORMAL);
            self.after(latency, Event::Ended { conn: id, at, code });
            return;
        }
        self.conns[id.0].is_open_at_relay = true;
        self.after(latency, Event::Opened { conn: id });
        self.relay_accepts(id);
    }

    /// The peer hears of it.
    pub(crate) fn opened(&mut self, id: ConnId) {
        let conn = &self.conns[id.0];
        let peer = conn.peer;
        if !conn.is_open_at_peer {
            self.hang_up(id, End::Peer, ABNORMAL);
            return;
        }
        self.trace.event(self.now, 1, peer as u64, &[]);
        if self.is_node(peer) {
            self.node_connected(peer, id);
        } else {
            self.client_connected(peer - self.nodes.len(), id);
        }
    }

    /// Puts a message on the way.
    pub(crate) fn send(&mut self, id: ConnId, to: End, message: Message) {
        let bytes = message.bytes().len();
        let conn = &mut self.conns[id.0];
        let at = conn.arrival(to, bytes, self.now, &mut self.rng);
        if conn.put(to, message) {
            self.at(at, Event::Arrive { conn: id, to });
        }
    }

    /// Its time has come.
    pub(crate) fn arrive(&mut self, id: ConnId, to: End) {
        let conn = &mut self.conns[id.0];
        let held_until = conn.held_until(to);
        if held_until > self.now {
            self.at(held_until, Event::Arrive { conn: id, to });
            return;
        }
        let peer = conn.peer;
        let Some(message) = conn.take(to) else { return };
        if !conn.is_open_at(to) {
            return;
        }
        let kind = match to {
            End::Peer => 2,
            End::Relay => 3,
        };
        self.trace
            .event(self.now, kind, peer as u64, message.bytes());
        self.trace.line(self.now, || describe(peer, to, &message));
        match (to, self.is_node(peer)) {
            (End::Relay, _) => self.relay_hears(id, &message),
            (End::Peer, true) => self.node_hears(peer, id, message),
            (End::Peer, false) => self.client_hears(peer - self.nodes.len(), id, &message),
        }
    }

    /// An end closes in order: what it sent before still arrives.
    pub(crate) fn hang_up(&mut self, id: ConnId, by: End, code: u16) {
        let other = match by {
            End::Peer => End::Relay,
            End::Relay => End::Peer,
        };
        let conn = &mut self.conns[id.0];
        match by {
            End::Peer => conn.is_open_at_peer = false,
            End::Relay => conn.is_open_at_relay = false,
        }
        let at = conn.arrival(other, 0, self.now, &mut self.rng);
        if conn.ends_in_order(other) {
            let (conn, at_end) = (id, other);
            self.at(
                at,
                Event::Ended {
                    conn,
                    at: at_end,
                    code,
                },
            );
        }
    }

    /// A connection breaks.
    pub(crate) fn break_conn(&mut self, id: ConnId, how: Break) {
        let conn = &mut self.conns[id.0];
        conn.cut(End::Peer);
        match how.tail_late_by {
            Some(ms) => {
                conn.hold(End::Relay, self.now + ms);
                conn.finish(End::Relay);
            }
            None => conn.cut(End::Relay),
        }
        for (at, after) in [
            (End::Relay, how.relay_hears_after),
            (End::Peer, how.peer_hears_after),
        ] {
            if let Some(after) = after {
                let code = ABNORMAL;
                self.after(after, Event::Ended { conn: id, at, code });
            }
        }
    }

    /// An end hears that its connection is over.
    pub(crate) fn ended(&mut self, id: ConnId, at: End, code: u16) {
        let conn = &mut self.conns[id.0];
        let held_until = conn.held_until(at);
        if held_until > self.now {
            self.at(held_until, Event::Ended { conn: id, at, code });
            return;
        }
        let peer = conn.peer;
        if !conn.is_open_at(at) {
            return;
        }
        match at {
            End::Peer => conn.is_open_at_peer = false,
            End::Relay => conn.is_open_at_relay = false,
        }
        self.trace
            .event(self.now, 4, peer as u64, &code.to_le_bytes());
        self.trace.line(self.now, || {
            format!("peer {peer}: {at:?} hears of the end ({code})")
        });
        match (at, self.is_node(peer)) {
            (End::Relay, _) => self.relay_loses(id),
            (End::Peer, true) => self.node_loses(peer, id, code),
            (End::Peer, false) => self.client_loses(peer - self.nodes.len(), id, code),
        }
    }
}

fn describe(peer: usize, to: End, message: &Message) -> String {
    let arrow = match to {
        End::Peer => "<-",
        End::Relay => "->",
    };
    match message {
        Message::Text(text) => format!("peer {peer} {arrow} {text}"),
        Message::Binary(frame) => {
            let entries = protocol::TokenFrame::decode(frame).map(|frame| {
                let entry = |entry: protocol::Entry<'_>| {
                    let (from, to) = (entry.offset, entry.end_offset());
                    let tokens = entry.token_count();
                    format!("{} {from}..{} ({tokens})", entry.alias, to.unwrap_or(0))
                };
                frame.entries().map(entry).collect::<Vec<_>>().join(", ")
            });
            format!("peer {peer} {arrow} tokens {}", entries.unwrap_or_default())
        }
    }
}
