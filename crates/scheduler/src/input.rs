//! What happens to a pool.

use protocol::{ClientToRelay, ModelOffer, NodeClass, NodeToRelay};

use crate::{Millis, SocketId};

/// One event. Time comes beside it, in [`crate::Scheduler::handle_input`].
#[derive(Debug)]
pub enum Input<'a> {
    /// A client is known. Answered with `welcome`.
    ClientJoined {
        /// Its connection.
        socket: SocketId,
        /// Who it is.
        account: String,
    },
    /// A client that joined before the pool slept. Like [`Self::ClientJoined`], but it has heard its welcome.
    ClientRestored {
        /// Its connection.
        socket: SocketId,
        /// Who it is.
        account: String,
        /// When the platform last answered its heartbeat; `None` for one that never sent any.
        heard_at: Option<Millis>,
    },
    /// A client sent a control frame.
    ClientSaid {
        /// Its connection.
        socket: SocketId,
        /// What it said.
        message: ClientToRelay,
        /// Length of the frame, for the content budget.
        bytes: usize,
    },
    /// A client's socket ended, however it did: the grace period of its jobs begins.
    ClientLeft {
        /// Its connection.
        socket: SocketId,
    },
    /// A node is known. Answered with `welcome`.
    NodeJoined {
        /// Its connection.
        socket: SocketId,
        /// Whose it is.
        account: String,
        /// What it is and offers.
        hello: NodeHello,
    },
    /// A node that joined before the pool slept. Like [`Self::NodeJoined`], but it has heard its welcome.
    NodeRestored {
        /// Its connection.
        socket: SocketId,
        /// Whose it is.
        account: String,
        /// What it is and offers, as it said when it joined.
        hello: NodeHello,
        /// When it was last heard. Where that is too long ago, it is closed at the next [`Self::Tick`].
        heard_at: Millis,
        /// Whether it takes no more work: it said so, or a job of its was refused for that.
        draining: bool,
    },
    /// A node sent a control frame.
    NodeSaid {
        /// Its connection.
        socket: SocketId,
        /// What it said.
        message: NodeToRelay,
    },
    /// A node sent a binary message.
    NodeTokens {
        /// Its connection.
        socket: SocketId,
        /// The message as it came.
        frame: &'a [u8],
    },
    /// A node's socket ended, however it did.
    NodeLeft {
        /// Its connection.
        socket: SocketId,
    },
    /// The platform answered this peer's heartbeat without waking us. A client that was never heard so, and never
    /// said `ping`, is not closed for its silence.
    Heard {
        /// Its connection.
        socket: SocketId,
        /// When.
        at: Millis,
    },
    /// Time passed. Only this lets leases and grace periods run out: frames that came in time count, however late
    /// they are read.
    Tick,
}

/// The fields of a node's `hello`, its key apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeHello {
    /// The node's public name.
    pub name: String,
    /// What kind of node it is.
    pub class: NodeClass,
    /// Program and version.
    pub software: String,
    /// Jobs at once, over all its models.
    pub slots: u32,
    /// What it can run.
    pub models: Vec<ModelOffer>,
    /// How many answers of an earlier connection it is about to announce.
    pub announces: u32,
}
