//! What sockets say: frames are read, first frames introduce, the rest goes to the scheduler.

use std::rc::Rc;

use protocol::limits::{
    CLIENT_FRAME_BYTES_MAX, KEY_BYTES_MAX, NODE_FRAME_BYTES_MAX, STRANGER_FRAME_BYTES_MAX,
};
use protocol::{
    ClientToRelay, CloseCode, DecodeError, ErrorCode, Failure, NodeToRelay, RelayToClient,
    RelayToNode, decode, encode,
};
use scheduler::{Input, NodeHello, SocketId};
use worker::WebSocket;

use crate::auth::{Identity, client_of_key, node_of_key};
use crate::pool::close_quietly;
use crate::pool::drive::Core;
use crate::pool::peers::{Side, Standing};

impl Core {
    /// A text message.
    pub(crate) fn text(self: &Rc<Self>, socket: &WebSocket, text: &str) {
        let Some((id, side, standing)) = self.who(socket) else {
            return close_quietly(socket, CloseCode::GoingAway.number(), "come back");
        };
        let bytes_max = match (side, &standing) {
            (Side::Client, Standing::Joined) => CLIENT_FRAME_BYTES_MAX,
            (
                Side::Node,
                Standing::Joined
                | Standing::Expected {
                    account: Some(_), ..
                },
            ) => NODE_FRAME_BYTES_MAX,
            (Side::Client, Standing::Expected { .. })
            | (Side::Node, Standing::Expected { account: None, .. }) => STRANGER_FRAME_BYTES_MAX,
        };
        match side {
            Side::Client => match decode(text, bytes_max) {
                Ok(message) => self.client_said(id, standing, message, text.len()),
                Err(error) => self.misunderstood(id, &standing, side, &error),
            },
            Side::Node => match decode(text, bytes_max) {
                Ok(message) => self.node_said(id, standing, message),
                Err(error) => self.misunderstood(id, &standing, side, &error),
            },
        }
    }

    /// A binary message: tokens, which only a node that has joined may send.
    pub(crate) fn binary(self: &Rc<Self>, socket: &WebSocket, frame: &[u8]) {
        match self.who(socket) {
            Some((id, Side::Node, Standing::Joined)) => {
                self.drive(Input::NodeTokens { socket: id, frame });
            }
            Some((id, _, _)) => self.expel(id, CloseCode::ProtocolError, "unexpected binary frame"),
            None => close_quietly(socket, CloseCode::GoingAway.number(), "come back"),
        }
    }

    fn who(&self, socket: &WebSocket) -> Option<(SocketId, Side, Standing)> {
        let peers = self.peers.borrow();
        let id = peers.id_of(socket)?;
        let peer = peers.get(id)?;
        Some((id, peer.side, peer.standing.clone()))
    }

    fn misunderstood(
        self: &Rc<Self>,
        id: SocketId,
        standing: &Standing,
        side: Side,
        error: &DecodeError,
    ) {
        match (error, standing) {
            (DecodeError::TooLong { .. }, _) => {
                self.expel(id, CloseCode::FrameTooLarge, "frame over its limit");
            }
            (DecodeError::Malformed(_), Standing::Expected { .. }) => {
                self.expel(
                    id,
                    CloseCode::ProtocolError,
                    "the first frame must be hello",
                );
            }
            (DecodeError::Malformed(_), Standing::Joined) => {
                let failure = Failure::new(ErrorCode::ProtocolError, error.to_string());
                let text = match side {
                    Side::Client => encode(&RelayToClient::Refused { failure }),
                    Side::Node => encode(&RelayToNode::Refused { failure }),
                };
                self.send(id, &text);
            }
        }
    }

    fn client_said(
        self: &Rc<Self>,
        id: SocketId,
        standing: Standing,
        message: ClientToRelay,
        bytes: usize,
    ) {
        match (standing, message) {
            (Standing::Joined, message) => self.drive(Input::ClientSaid {
                socket: id,
                message,
                bytes,
            }),
            (Standing::Expected { .. }, ClientToRelay::Hello { key: Some(key) })
                if key.len() <= KEY_BYTES_MAX =>
            {
                match client_of_key(&self.access, &key) {
                    Identity::Known(account) => self.client_joined(id, account),
                    Identity::Refused(reason) => self.expel(id, CloseCode::Unauthorized, reason),
                    Identity::Anonymous => self.expel(id, CloseCode::Unauthorized, "send a key"),
                }
            }
            (Standing::Expected { .. }, ClientToRelay::Hello { .. }) => {
                self.expel(id, CloseCode::Unauthorized, "this relay needs an API key");
            }
            (Standing::Expected { .. }, ClientToRelay::Ping) => self.send(id, protocol::PONG),
            (Standing::Expected { .. }, _) => {
                self.expel(
                    id,
                    CloseCode::ProtocolError,
                    "the first frame must be hello",
                );
            }
        }
    }

    /// A client is known: from its key, or from what the Worker vouched for.
    pub(crate) fn client_joined(self: &Rc<Self>, id: SocketId, account: String) {
        self.peers.borrow_mut().join(id, &account, None);
        self.drive(Input::ClientJoined {
            socket: id,
            account,
        });
    }

    fn node_said(self: &Rc<Self>, id: SocketId, standing: Standing, message: NodeToRelay) {
        let account = match standing {
            Standing::Joined => {
                if message == NodeToRelay::Draining {
                    self.peers.borrow_mut().note_draining(id);
                }
                return self.drive(Input::NodeSaid {
                    socket: id,
                    message,
                });
            }
            Standing::Expected { account, .. } => account,
        };
        if let Err(reason) = message.validate() {
            return self.expel(id, CloseCode::ProtocolError, reason);
        }
        let NodeToRelay::Hello {
            key,
            name,
            class,
            software,
            slots,
            models,
            announces,
            machine: _,
        } = message
        else {
            return self.expel(
                id,
                CloseCode::ProtocolError,
                "the first frame must be hello",
            );
        };
        let identity = match (account, key) {
            (Some(account), _) => Identity::Known(account),
            (None, Some(key)) => node_of_key(&self.access, &key),
            (None, None) => Identity::Anonymous,
        };
        match identity {
            Identity::Known(account) => {
                let hello = NodeHello {
                    name,
                    class,
                    software,
                    slots,
                    models,
                    announces,
                };
                self.peers
                    .borrow_mut()
                    .join(id, &account, Some(hello.clone().into()));
                self.drive(Input::NodeJoined {
                    socket: id,
                    account,
                    hello,
                });
            }
            Identity::Refused(reason) => self.expel(id, CloseCode::Unauthorized, reason),
            Identity::Anonymous => self.expel(
                id,
                CloseCode::Unauthorized,
                "a node needs a node key (hgn-…)",
            ),
        }
    }
}
