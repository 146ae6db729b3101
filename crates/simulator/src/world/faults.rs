//! What goes wrong is done here, and mended.

use crate::Millis;
use crate::network::End;
use crate::observation::Observation;
use crate::scenario::{Break, Fault};
use crate::world::{Event, World};

impl World {
    pub(crate) fn goes_wrong(&mut self, number: usize) {
        let (_, fault) = self.scenario.faults[number];
        self.trace.event(self.now, 11, number as u64, &[]);
        self.trace.line(self.now, || format!("fault: {fault:?}"));
        self.see(&Observation::Fault { fault: &fault });
        match fault {
            Fault::KillNode {
                node,
                is_silent,
                back_after,
            } => self.node_dies(node, is_silent, back_after),
            Fault::StallNode { node, ms } => self.stall(node, ms),
            Fault::HangEngine { node, ms } => {
                self.nodes[node].engine_hangs = true;
                self.after(ms, Event::EngineWakes { node });
            }
            Fault::BreakEngine { node } => self.nodes[node].engine.breaks_next = true,
            Fault::DrainNode { node, back_after } => {
                self.nodes[node].back_after = back_after.max(1);
                self.node_input(node, node_session::Input::DrainRequested);
            }
            Fault::CutNode { node, how } => self.cut_peer(node, how),
            Fault::CutClient { client, how } => self.cut_peer(self.nodes.len() + client, how),
            Fault::CutAll { how } => {
                for peer in 0..self.nodes.len() + self.clients.len() {
                    self.cut_peer(peer, how);
                }
            }
            Fault::PartNode { node, ms } => self.part(node, ms),
            Fault::PartClient { client, ms } => self.part(self.nodes.len() + client, ms),
            Fault::KillClient { client } => self.client_dies(client),
            Fault::StallClient { client, ms } => self.stall(self.nodes.len() + client, ms),
            Fault::SlowClient {
                client,
                bytes_per_ms,
            } => self.slow_down(client, bytes_per_ms),
            Fault::KillRelay { down_ms } => {
                self.relay_dies();
                self.after(down_ms, Event::RelayBack);
            }
            Fault::SetClock { by_ms } => {
                self.relay.set_clock(by_ms);
                self.arm_relay();
            }
        }
    }

    fn conn_of(&self, peer: usize) -> Option<crate::network::ConnId> {
        match peer.checked_sub(self.nodes.len()) {
            None => self.nodes[peer].conn,
            Some(client) => self.clients[client].conn,
        }
    }

    fn cut_peer(&mut self, peer: usize, how: Break) {
        if let Some(conn) = self.conn_of(peer)
            && self.conns[conn.0].is_open_at(End::Relay)
        {
            self.break_conn(conn, how);
        }
    }

    /// Nothing gets through; what was sent arrives afterwards, if the connection lasts.
    fn part(&mut self, peer: usize, ms: Millis) {
        let until = self.now + ms;
        match peer.checked_sub(self.nodes.len()) {
            None => self.nodes[peer].parted_until = until,
            Some(client) => self.clients[client].parted_until = until,
        }
        if let Some(conn) = self.conn_of(peer) {
            self.conns[conn.0].hold(End::Peer, until);
            self.conns[conn.0].hold(End::Relay, until);
        }
    }

    pub(crate) fn parted_until(&self, peer: usize) -> Millis {
        match peer.checked_sub(self.nodes.len()) {
            None => self.nodes[peer].parted_until,
            Some(client) => self.clients[client].parted_until,
        }
    }

    fn slow_down(&mut self, client: usize, bytes_per_ms: u64) {
        self.clients[client].reads_per_ms = bytes_per_ms;
        if let Some(conn) = self.clients[client].conn {
            self.conns[conn.0].reads_per_ms = bytes_per_ms;
        }
    }

    fn stall(&mut self, peer: usize, ms: Millis) {
        match peer.checked_sub(self.nodes.len()) {
            None => self.nodes[peer].is_stalled = true,
            Some(client) => self.clients[client].is_stalled = true,
        }
        self.after(ms, Event::Wake { peer });
    }

    pub(crate) fn is_stalled(&self, peer: usize) -> bool {
        match peer.checked_sub(self.nodes.len()) {
            None => self.nodes[peer].is_stalled,
            Some(client) => self.clients[client].is_stalled,
        }
    }

    /// What happens to a program that stands still happens when it goes on.
    pub(crate) fn postpone(&mut self, peer: usize, event: Event) {
        match peer.checked_sub(self.nodes.len()) {
            None => self.nodes[peer].inbox.push_back(event),
            Some(client) => self.clients[client].inbox.push_back(event),
        }
    }

    pub(crate) fn wakes(&mut self, peer: usize) {
        let inbox = match peer.checked_sub(self.nodes.len()) {
            None => {
                self.nodes[peer].is_stalled = false;
                std::mem::take(&mut self.nodes[peer].inbox)
            }
            Some(client) => {
                self.clients[client].is_stalled = false;
                std::mem::take(&mut self.clients[client].inbox)
            }
        };
        for event in inbox {
            self.handle(event);
        }
    }

    /// Everything is mended: from here on, all that is left must come to an end by itself.
    pub(crate) fn trouble_over(&mut self) {
        self.trace.line(self.now, || "the trouble is over".into());
        self.relay_starts();
        for peer in 0..self.nodes.len() + self.clients.len() {
            if self.is_stalled(peer) {
                self.wakes(peer);
            }
            if let Some(conn) = self.conn_of(peer) {
                self.conns[conn.0].release(self.now);
            }
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].parted_until = 0;
            self.nodes[node].engine.breaks_next = false;
            self.engine_wakes(node);
        }
        for client in 0..self.clients.len() {
            self.clients[client].parted_until = 0;
            self.slow_down(client, 0);
        }
        self.see(&Observation::TroubleOver);
    }
}
