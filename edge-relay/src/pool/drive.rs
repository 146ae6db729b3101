//! Event → scheduler input; scheduler output → action.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use catalog::{Catalog, Class};
use protocol::limits::HELLO_MS_MAX;
use protocol::{CloseCode, NodeClass, encode};
use scheduler::{Config, Input, ModelEntry, Output, Scheduler, SocketId, TierEntry};
use worker::{State, WebSocket};

use crate::config::{Access, Tuning};
use crate::pool::clock::Clock;
use crate::pool::close_quietly;
use crate::pool::peers::{Attachment, Peer, Peers, Side, Standing};
use crate::pool::secrets::Secrets;
use crate::random::random;

/// A pool's state. Every field is borrowed for one step at most.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) state: State,
    pub(crate) clock: Clock,
    pub(crate) scheduler: RefCell<Scheduler>,
    pub(crate) peers: RefCell<Peers>,
    /// When the pending timer fires; `None` without one.
    pub(crate) timer_at: Cell<Option<u64>>,
    /// Whether the idle sweep's alarm is known to be set.
    pub(crate) alarm_set: Cell<bool>,
    pub(crate) access: Access,
    pub(crate) secrets: RefCell<Secrets>,
    /// When this object's memory began.
    #[cfg(feature = "fault-injection")]
    pub(crate) since: u64,
}

impl Core {
    pub(crate) fn new(state: State, access: Access, catalog: &Catalog, tuning: Tuning) -> Self {
        let clock = Clock::default();
        #[cfg(feature = "fault-injection")]
        let since = clock.now();
        let secrets = Secrets::load(&state.storage().sql(), clock.now());
        let config = Config {
            frames_per_second_max: tuning.frames_per_second_max,
            lease_ms: tuning.lease_ms.into(),
            secrets: secrets.all(),
            ..scheduler_config(catalog)
        };
        let scheduler = Scheduler::new(config, random(), clock.now());
        Self {
            state,
            clock,
            scheduler: RefCell::new(scheduler),
            peers: RefCell::default(),
            timer_at: Cell::new(None),
            alarm_set: Cell::new(false),
            access,
            secrets: RefCell::new(secrets),
            #[cfg(feature = "fault-injection")]
            since,
        }
    }

    /// Whether no further socket is taken.
    pub(crate) fn is_full(&self, sockets_max: usize, strangers_max: Option<usize>) -> bool {
        let peers = self.peers.borrow();
        peers.count() >= sockets_max || strangers_max.is_some_and(|max| peers.strangers() >= max)
    }

    /// Whether a request of this length can be held.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.scheduler.borrow().has_room_for(bytes)
    }

    /// One step of the table.
    pub(crate) fn drive(self: &Rc<Self>, input: Input<'_>) {
        self.scheduler
            .borrow_mut()
            .handle_input(self.clock.now(), input);
        self.act();
        self.arm();
    }

    fn act(self: &Rc<Self>) {
        loop {
            let output = self.scheduler.borrow_mut().poll_output();
            match output {
                None => return,
                Some(Output::ToClient { socket, message }) => self.send(socket, &encode(&message)),
                Some(Output::ToNode { socket, message }) => self.send(socket, &encode(&message)),
                Some(Output::TokensToClient { socket, frame }) => {
                    // Sending fails only on a socket whose end will be an event of its own.
                    if let Some(peer) = self.peers.borrow().get(socket) {
                        // A copy for the platform, which reads it after this call has returned.
                        let bytes = js_sys::Uint8Array::from(&frame[..]);
                        drop(peer.socket.as_ref().send_with_js_u8_array(&bytes));
                    }
                }
                Some(
                    Output::CloseClient {
                        socket,
                        code,
                        reason,
                    }
                    | Output::CloseNode {
                        socket,
                        code,
                        reason,
                    },
                ) => {
                    self.dismiss(socket, code, reason);
                }
            }
        }
    }

    pub(crate) fn send(&self, socket: SocketId, text: &str) {
        if let Some(peer) = self.peers.borrow().get(socket) {
            drop(peer.socket.send_with_str(text));
        }
    }

    /// Closes a socket; the scheduler has been told already or never knew it.
    fn dismiss(&self, id: SocketId, code: CloseCode, reason: &str) {
        let peer = self.peers.borrow_mut().remove(id);
        if let Some(peer) = peer {
            close_for_good(peer, code, reason);
        }
    }

    /// Takes in a new socket.
    pub(crate) fn accept(
        self: &Rc<Self>,
        socket: &WebSocket,
        side: Side,
        account: Option<String>,
    ) -> SocketId {
        self.state.accept_web_socket(socket);
        let now = self.clock.now();
        let attachment = Attachment {
            id: 0,
            side,
            account: None,
            since: now,
            hello: None,
            draining: false,
            dismissed: false,
        };
        let id = self.peers.borrow_mut().add(Peer {
            socket: socket.clone(),
            side,
            standing: Standing::Expected {
                account: account.clone(),
                by: now + HELLO_MS_MAX,
            },
            attachment,
        });
        match (side, account) {
            (Side::Client, Some(account)) => self.client_joined(id, account),
            (Side::Client, None) | (Side::Node, _) => self.arm(),
        }
        id
    }

    /// Sets memory aside for a body that is about to be read.
    pub(crate) fn reserve(&self, id: SocketId, bytes: usize) -> bool {
        self.scheduler.borrow_mut().reserve(id, bytes)
    }

    /// Takes the sockets back after the object slept. They have heard their welcome before.
    pub(crate) fn restore(self: &Rc<Self>) {
        for socket in self.state.get_websockets() {
            let Ok(Some(attachment)) = socket.deserialize_attachment::<Attachment>() else {
                close_quietly(&socket, CloseCode::GoingAway.number(), "come back");
                continue;
            };
            let is_open = socket.as_ref().ready_state() == web_sys::WebSocket::OPEN;
            if attachment.dismissed || !is_open {
                close_quietly(&socket, CloseCode::GoingAway.number(), "closed before");
                continue;
            }
            self.restore_one(socket, attachment);
        }
        self.act();
    }

    fn restore_one(self: &Rc<Self>, socket: WebSocket, attachment: Attachment) {
        let now = self.clock.now();
        let id = SocketId(attachment.id);
        let standing = match &attachment.account {
            Some(_) => Standing::Joined,
            None => Standing::Expected {
                account: None,
                by: now + HELLO_MS_MAX,
            },
        };
        let peer = Peer {
            side: attachment.side,
            socket,
            standing,
            attachment: attachment.clone(),
        };
        let answered_at = self.answered_at(&peer);
        self.peers.borrow_mut().put(id, peer);
        let Some(account) = attachment.account else {
            return;
        };
        let input = match attachment.hello {
            Some(hello) => Input::NodeRestored {
                socket: id,
                account,
                hello: hello.into(),
                heard_at: answered_at.unwrap_or(attachment.since),
                draining: attachment.draining,
            },
            None => Input::ClientRestored {
                socket: id,
                account,
                heard_at: answered_at,
            },
        };
        self.scheduler.borrow_mut().handle_input(now, input);
    }

    /// The socket ended, however it did.
    pub(crate) fn left(self: &Rc<Self>, socket: &WebSocket) {
        let id = self.peers.borrow().id_of(socket);
        if let Some(id) = id {
            self.forget(id);
        }
    }

    fn forget(self: &Rc<Self>, id: SocketId) {
        let Some(peer) = self.peers.borrow_mut().remove(id) else {
            return;
        };
        match (peer.side, peer.standing) {
            (_, Standing::Expected { .. }) => {}
            (Side::Client, Standing::Joined) => self.drive(Input::ClientLeft { socket: id }),
            (Side::Node, Standing::Joined) => self.drive(Input::NodeLeft { socket: id }),
        }
    }

    /// Closes a socket for something it did, and lets the scheduler know that it left.
    pub(crate) fn expel(self: &Rc<Self>, id: SocketId, code: CloseCode, reason: &str) {
        let peer = self.peers.borrow().get(id).cloned();
        self.forget(id);
        if let Some(peer) = peer {
            close_for_good(peer, code, reason);
        }
    }
}

/// Closes a socket and marks it, so that it is not taken for a living one after a sleep.
fn close_for_good(mut peer: Peer, code: CloseCode, reason: &str) {
    peer.attachment.dismissed = true;
    peer.attach();
    close_quietly(&peer.socket, code.number(), reason);
}

fn scheduler_config(catalog: &Catalog) -> Config {
    let models = catalog.models().iter().map(|model| ModelEntry {
        id: model.id.clone(),
        class: node_class(model.class),
        context_tokens: model.context_tokens,
    });
    let tiers = catalog.tiers().iter().map(|tier| TierEntry {
        id: tier.id.clone(),
        models: tier.models.clone(),
    });
    Config {
        models: models.collect(),
        tiers: tiers.collect(),
        ..Config::default()
    }
}

const fn node_class(class: Class) -> NodeClass {
    match class {
        Class::Rig => NodeClass::Rig,
        Class::Render => NodeClass::Render,
        Class::Browser => NodeClass::Browser,
    }
}
