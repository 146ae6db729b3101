//! What a pool's shell has to do, and what it may show.

use protocol::{CloseCode, RelayToClient, RelayToNode};

use crate::SocketId;

/// One action. Only sockets that joined and did not leave are named.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send a control frame to a client.
    ToClient {
        /// Its connection.
        socket: SocketId,
        /// What to say.
        message: RelayToClient,
    },
    /// Send a binary message to a client.
    TokensToClient {
        /// Its connection.
        socket: SocketId,
        /// A token frame.
        frame: Vec<u8>,
    },
    /// Send a control frame to a node.
    ToNode {
        /// Its connection.
        socket: SocketId,
        /// What to say.
        message: RelayToNode,
    },
    /// Close a client's socket; the scheduler has forgotten it already.
    CloseClient {
        /// Its connection.
        socket: SocketId,
        /// Why, for programs.
        code: CloseCode,
        /// Why, for people.
        reason: &'static str,
    },
    /// Close a node's socket; the scheduler has forgotten it already.
    CloseNode {
        /// Its connection.
        socket: SocketId,
        /// Why, for programs.
        code: CloseCode,
        /// Why, for people.
        reason: &'static str,
    },
}

/// What can be had of one model now.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelAvailability {
    /// Catalog id.
    pub model: String,
    /// Nodes that offer it and take work.
    pub nodes: u32,
    /// Their slots.
    pub slots: u32,
    /// Their free slots.
    pub free_slots: u32,
    /// Jobs that wait for it.
    pub queued: u32,
    /// The largest context that a node offers; 0 without a node.
    pub context_tokens: u32,
    /// Mean over the measured nodes; 0 where none is.
    pub decode_tokens_per_second: f64,
}

/// How fast a node is at one model, in tokens per second by the relay's clock; `None` where it was not measured yet.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSpeed {
    /// Catalog id.
    pub model: String,
    /// How fast it reads prompts.
    pub prefill: Option<f64>,
    /// How fast it writes answers.
    pub decode: Option<f64>,
}

/// What happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Jobs taken in.
    pub submitted: u64,
    /// Submissions refused at once.
    pub refused: u64,
    /// Attempts begun.
    pub assigned: u64,
    /// Jobs that went back to the head of the queue.
    pub requeued: u64,
    /// Jobs that a client took up again and that were still here.
    pub resumed: u64,
    /// Jobs that a client took up again and that this relay had forgotten.
    pub rebuilt: u64,
    /// Attempts that went on after their node had been away.
    pub adopted: u64,
    /// Announced attempts that nobody wants.
    pub fenced: u64,
    /// Tickets that were not good.
    pub tickets_refused: u64,
    /// Times that a node paused for a slow reader.
    pub paused: u64,
    /// Times that nodes were asked to gather deltas for another time than before.
    pub merge_changes: u64,
    /// Jobs that ended well.
    pub completed: u64,
    /// Jobs that broke.
    pub failed: u64,
    /// Jobs stopped by their client or because it stayed away.
    pub cancelled: u64,
    /// Tokens passed on.
    pub tokens: u64,
    /// Attempts without progress for a whole lease.
    pub leases_expired: u64,
    /// Nodes that ended with attempts under way.
    pub nodes_lost: u64,
    /// Messages and delta kinds that this version does not know.
    pub unknown_messages: u64,
    /// Messages out of order, foreign aliases, offsets that do not fit, frames that are none.
    pub protocol_errors: u64,
    /// Entries and messages about attempts that had just ended.
    pub stale_messages: u64,
    /// Answers whose usage was not what the relay counted.
    pub usage_mismatches: u64,
    /// Offers of a model that is not in the catalog, or not for that class of node.
    pub offers_ignored: u64,
}
