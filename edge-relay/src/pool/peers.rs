//! Who is on which socket: the pool's own table, so that no message asks the runtime.

use std::collections::BTreeMap;

use protocol::{ModelOffer, NodeClass};
use scheduler::{Millis, NodeHello, SocketId};
use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;
use worker::{Result, WebSocket};

/// The property in which a socket's JavaScript object carries our id. Reading it is one crossing; reading the
/// attachment would copy and parse it for each message.
const ID_PROPERTY: &str = "heliographId";

/// Which end of the network a socket belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    /// Asks.
    Client,
    /// Answers.
    Node,
}

/// How far a socket has introduced itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Must say `hello` by then. A node whose upgrade carried its key has an account here, and still has to say what it is.
    Expected {
        /// Known from the upgrade request.
        account: Option<String>,
        /// The latest moment.
        by: Millis,
    },
    /// The scheduler knows it.
    Joined,
}

/// One socket.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) socket: WebSocket,
    pub(crate) side: Side,
    pub(crate) standing: Standing,
}

/// What outlives the object's sleep, on the socket itself. Never content.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) id: u32,
    pub(crate) side: Side,
    /// Absent until it joined.
    pub(crate) account: Option<String>,
    /// A node's own words.
    pub(crate) hello: Option<NodeCard>,
}

/// A node's `hello`, as it is kept in its attachment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NodeCard {
    name: String,
    class: NodeClass,
    software: String,
    slots: u32,
    models: Vec<ModelOffer>,
}

impl From<NodeHello> for NodeCard {
    fn from(hello: NodeHello) -> Self {
        let NodeHello {
            name,
            class,
            software,
            slots,
            models,
        } = hello;
        Self {
            name,
            class,
            software,
            slots,
            models,
        }
    }
}

impl From<NodeCard> for NodeHello {
    fn from(card: NodeCard) -> Self {
        let NodeCard {
            name,
            class,
            software,
            slots,
            models,
        } = card;
        Self {
            name,
            class,
            software,
            slots,
            models,
        }
    }
}

/// Every socket of the pool.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    by_id: BTreeMap<SocketId, Peer>,
    last_id: u32,
}

impl Peers {
    /// Takes in a socket under a new id.
    pub(crate) fn add(&mut self, peer: Peer) -> Result<SocketId> {
        let id = SocketId(self.last_id.wrapping_add(1));
        self.put(id, peer)?;
        Ok(id)
    }

    /// Takes in a socket that had its id before the pool slept.
    pub(crate) fn put(&mut self, id: SocketId, peer: Peer) -> Result<()> {
        let object: &JsValue = peer.socket.as_ref().as_ref();
        js_sys::Reflect::set(object, &ID_PROPERTY.into(), &id.0.into())?;
        self.last_id = self.last_id.max(id.0);
        self.by_id.insert(id, peer);
        Ok(())
    }

    /// The id of a socket that an event names.
    pub(crate) fn id_of(&self, socket: &WebSocket) -> Option<SocketId> {
        let object: &JsValue = socket.as_ref().as_ref();
        let property = js_sys::Reflect::get(object, &ID_PROPERTY.into()).ok()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "invariant: `put` wrote a u32 there"
        )]
        let id = match property.as_f64() {
            Some(number) => number as u32,
            // The runtime made a new object for the same socket.
            None => socket.deserialize_attachment::<Attachment>().ok()??.id,
        };
        Some(SocketId(id)).filter(|id| self.by_id.contains_key(id))
    }

    pub(crate) fn get(&self, id: SocketId) -> Option<&Peer> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: SocketId) -> Option<&mut Peer> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: SocketId) -> Option<Peer> {
        self.by_id.remove(&id)
    }

    pub(crate) fn count(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketId, &Peer)> {
        self.by_id.iter().map(|(id, peer)| (*id, peer))
    }

    /// When the first of those that have not said `hello` runs out of time.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.by_id
            .values()
            .filter_map(|peer| match peer.standing {
                Standing::Expected { by, .. } => Some(by),
                Standing::Joined => None,
            })
            .min()
    }
}
