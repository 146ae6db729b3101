//! The fake network: sockets as TCP gives them. Within one connection messages arrive in order and none is missing, until it
//! breaks; then what was on the way may be lost, and either end may hear of it late or never.

use std::collections::VecDeque;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::Millis;

/// A connection's number; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnId(pub(crate) usize);

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Client or node.
    Peer,
    /// The relay.
    Relay,
}

/// A WebSocket message.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// A control frame.
    Text(String),
    /// A token frame.
    Binary(Vec<u8>),
}

impl Message {
    /// Its content.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Lane {
    on_the_way: VecDeque<Message>,
    last_at: Millis,
    is_cut: bool,
    /// Until then nothing arrives: a partition that the transport survives, or a tail that is late.
    held_until: Millis,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Conn {
    /// Which peer dialled.
    pub(crate) peer: usize,
    to_peer: Lane,
    to_relay: Lane,
    latency_ms: Millis,
    jitter_ms: Millis,
    /// Bytes per millisecond that the peer reads; 0 for no limit.
    pub(crate) reads_per_ms: u64,
    /// Whether the peer's program still has its end open.
    pub(crate) is_open_at_peer: bool,
    /// Whether the relay's program still has its end open.
    pub(crate) is_open_at_relay: bool,
}

impl Conn {
    /// A fresh connection.
    pub(crate) fn new(peer: usize, latency_ms: Millis, jitter_ms: Millis) -> Self {
        Self {
            peer,
            to_peer: Lane::default(),
            to_relay: Lane::default(),
            latency_ms,
            jitter_ms,
            reads_per_ms: 0,
            is_open_at_peer: true,
            is_open_at_relay: false,
        }
    }

    const fn lane(&mut self, to: End) -> &mut Lane {
        match to {
            End::Peer => &mut self.to_peer,
            End::Relay => &mut self.to_relay,
        }
    }

    /// Whether an end's program has it open.
    pub(crate) const fn is_open_at(&self, end: End) -> bool {
        match end {
            End::Peer => self.is_open_at_peer,
            End::Relay => self.is_open_at_relay,
        }
    }

    /// When something sent now arrives; never before what was sent earlier.
    pub(crate) fn arrival(
        &mut self,
        to: End,
        bytes: usize,
        now: Millis,
        rng: &mut ChaCha8Rng,
    ) -> Millis {
        let jitter = if self.jitter_ms > 0 {
            rng.random_range(0..=self.jitter_ms)
        } else {
            0
        };
        let reading = match to {
            End::Peer if self.reads_per_ms > 0 => bytes as u64 / self.reads_per_ms,
            End::Peer | End::Relay => 0,
        };
        let earliest = now + self.latency_ms + jitter;
        let lane = self.lane(to);
        lane.last_at = earliest.max(lane.held_until).max(lane.last_at) + reading;
        lane.last_at
    }

    /// Until when nothing arrives at an end.
    pub(crate) const fn held_until(&self, to: End) -> Millis {
        match to {
            End::Peer => self.to_peer.held_until,
            End::Relay => self.to_relay.held_until,
        }
    }

    /// Nothing arrives at an end before this.
    pub(crate) fn hold(&mut self, to: End, until: Millis) {
        let lane = self.lane(to);
        lane.held_until = lane.held_until.max(until);
    }

    /// What is held may arrive.
    pub(crate) fn release(&mut self, now: Millis) {
        for lane in [&mut self.to_peer, &mut self.to_relay] {
            lane.held_until = lane.held_until.min(now);
        }
    }

    /// Puts a message on the way; `false` where the line is dead and nobody knows yet.
    pub(crate) fn put(&mut self, to: End, message: Message) -> bool {
        let lane = self.lane(to);
        if lane.is_cut {
            return false;
        }
        lane.on_the_way.push_back(message);
        true
    }

    /// Takes the message whose time has come.
    pub(crate) fn take(&mut self, to: End) -> Option<Message> {
        self.lane(to).on_the_way.pop_front()
    }

    /// Breaks one direction: what is on the way is lost, and nothing comes after it.
    pub(crate) fn cut(&mut self, to: End) {
        let lane = self.lane(to);
        lane.is_cut = true;
        lane.on_the_way.clear();
    }

    /// Ends one direction: what is on the way still arrives, late perhaps, and nothing comes after it.
    pub(crate) fn finish(&mut self, to: End) {
        self.lane(to).is_cut = true;
    }

    /// The other end is told so, unless the line is dead and it cannot be.
    pub(crate) fn ends_in_order(&mut self, to: End) -> bool {
        !std::mem::replace(&mut self.lane(to).is_cut, true)
    }
}
