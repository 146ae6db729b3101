//! Who is on which socket: the pool's own table, so that no message asks the runtime.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{ModelOffer, NodeClass};
use scheduler::{Millis, NodeHello, SocketId};
use serde::{Deserialize, Serialize};
use wasm_bindgen::JsCast as _;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::WebSocket;

#[wasm_bindgen]
extern "C" {
    /// A socket's JavaScript object, which carries our id in a property. Reading it is one crossing; reading the
    /// attachment would copy and parse it for each message.
    #[wasm_bindgen(extends = web_sys::WebSocket)]
    type Numbered;
    #[wasm_bindgen(method, structural, getter, js_name = heliographId)]
    fn id(this: &Numbered) -> Option<u32>;
    #[wasm_bindgen(method, structural, setter, js_name = heliographId)]
    fn set_id(this: &Numbered, id: u32);
}

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
    /// As it was last written to the socket.
    pub(crate) attachment: Attachment,
}

impl Peer {
    /// Writes what must outlive the object's sleep. A node whose card is over the platform's 16 KiB cannot be kept.
    pub(crate) fn attach(&self) {
        if self.socket.serialize_attachment(&self.attachment).is_err() {
            worker::console_warn!(
                "a socket's attachment was refused; it will have to come back after a sleep"
            );
        }
    }
}

/// What outlives the object's sleep, on the socket itself. Never content.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) id: u32,
    pub(crate) side: Side,
    /// Absent until it joined.
    pub(crate) account: Option<String>,
    /// When it was taken in.
    pub(crate) since: Millis,
    /// A node's own words.
    pub(crate) hello: Option<NodeCard>,
    /// A node that takes no more work.
    #[serde(default)]
    pub(crate) draining: bool,
    /// We closed it; a peer that never answers the close leaves the socket in the runtime's list.
    #[serde(default)]
    pub(crate) dismissed: bool,
}

/// A node's `hello`, as it is kept in its attachment.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
            announces: _,
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
            // What it announced before the pool slept has been answered: a pool with a job under way does not sleep.
            announces: 0,
        }
    }
}

/// Every socket of the pool.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    by_id: BTreeMap<SocketId, Peer>,
    /// Those that have yet to say who they are, by their deadline: looked at after every frame, so not by a search.
    expected: BTreeSet<(Millis, SocketId)>,
    last_id: u32,
}

impl Peers {
    /// Takes in a socket under a new id.
    pub(crate) fn add(&mut self, mut peer: Peer) -> SocketId {
        let id = SocketId(self.last_id.wrapping_add(1));
        peer.attachment.id = id.0;
        peer.attach();
        self.put(id, peer);
        id
    }

    /// Takes in a socket that had its id before the pool slept.
    pub(crate) fn put(&mut self, id: SocketId, peer: Peer) {
        peer.socket
            .as_ref()
            .unchecked_ref::<Numbered>()
            .set_id(id.0);
        self.last_id = self.last_id.max(id.0);
        if let Standing::Expected { by, .. } = peer.standing {
            self.expected.insert((by, id));
        }
        self.by_id.insert(id, peer);
    }

    /// The id of a socket that an event names.
    pub(crate) fn id_of(&self, socket: &WebSocket) -> Option<SocketId> {
        let id = match socket.as_ref().unchecked_ref::<Numbered>().id() {
            Some(id) => id,
            // The runtime made a new object for the same socket.
            None => socket.deserialize_attachment::<Attachment>().ok()??.id,
        };
        Some(SocketId(id)).filter(|id| self.by_id.contains_key(id))
    }

    pub(crate) fn get(&self, id: SocketId) -> Option<&Peer> {
        self.by_id.get(&id)
    }

    /// The socket has said who it is, and a node what it offers.
    pub(crate) fn join(&mut self, id: SocketId, account: &str, hello: Option<NodeCard>) {
        let Some(peer) = self.by_id.get_mut(&id) else {
            return;
        };
        peer.attachment.account = Some(account.to_owned());
        peer.attachment.hello = hello;
        peer.attach();
        if let Standing::Expected { by, .. } =
            std::mem::replace(&mut peer.standing, Standing::Joined)
        {
            self.expected.remove(&(by, id));
        }
    }

    /// A node takes no more work; known after a sleep, too.
    pub(crate) fn note_draining(&mut self, id: SocketId) {
        if let Some(peer) = self.by_id.get_mut(&id) {
            peer.attachment.draining = true;
            peer.attach();
        }
    }

    pub(crate) fn remove(&mut self, id: SocketId) -> Option<Peer> {
        let peer = self.by_id.remove(&id)?;
        if let Standing::Expected { by, .. } = peer.standing {
            self.expected.remove(&(by, id));
        }
        Some(peer)
    }

    pub(crate) fn count(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketId, &Peer)> {
        self.by_id.iter().map(|(id, peer)| (*id, peer))
    }

    /// When the first of those that have not said `hello` runs out of time.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.expected.first().map(|(by, _)| *by)
    }

    /// Those that ran out of time.
    pub(crate) fn late(&self, now: Millis) -> Vec<SocketId> {
        let late = self.expected.iter().take_while(|(by, _)| *by <= now);
        late.map(|(_, id)| *id).collect()
    }

    /// How many have yet to say who they are.
    pub(crate) fn strangers(&self) -> usize {
        self.expected.len()
    }
}
