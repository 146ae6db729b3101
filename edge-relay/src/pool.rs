//! `Pool`: one shard of the relay. Holds the `WebSocket`s of clients and nodes and drives `scheduler`.
//!
//! The shell is a table: an event becomes a `scheduler::Input`, each `scheduler::Output` becomes an action, in `Core::drive`. No
//! decision about a job is taken here; no borrow lives across an await.
//!
//! Architecture invariant: nothing in this file or below writes content to storage or a log. What is stored at all is
//! each socket's attachment (who it is), the time of the idle sweep's alarm and the secrets that sign tickets.
//!
//! What a pool holds in memory is bounded: requests and what is kept of their answers by the content budget
//! (`Config::content_bytes_max`, 48 MiB); what slow sockets have yet to read by a window (`Config::window_bytes`,
//! 64 KiB, and the frame that crosses it) for each running job, because a node that is a window ahead of its reader
//! pauses; sockets by [`SOCKETS_MAX`], an attachment of at most 16 KiB each.

mod clock;
mod drive;
mod events;
#[cfg(feature = "fault-injection")]
mod faults;
mod listen;
mod peers;
mod secrets;
mod sweep;

use std::rc::Rc;

use protocol::limits::CLIENT_FRAME_BYTES_MAX;
use protocol::{CloseCode, ErrorCode, Failure, PING, PONG, SUBPROTOCOL};
use worker::{
    DurableObject, Env, Request, Response, Result, State, WebSocket, WebSocketPair,
    WebSocketRequestResponsePair, durable_object,
};

use crate::config::{self, Access};
use crate::pool::drive::Core;
use crate::pool::peers::Side;
use crate::reply;
use crate::upgrade::{ACCOUNT_HEADER, BYTES_HEADER};

/// Sockets that one pool takes. Half of the platform's 32,768 hibernatable sockets per object: those that were closed
/// and whose peer never answers still count there, and one too many would panic.
const SOCKETS_MAX: usize = 16_000;

/// Sockets that have yet to say who they are: a flood of them must not keep the known ones out.
const STRANGERS_MAX: usize = 512;

/// One shard of the relay.
#[durable_object(alarm)]
#[derive(Debug)]
pub struct Pool {
    core: std::result::Result<Rc<Core>, String>,
}

impl DurableObject for Pool {
    fn new(state: State, env: Env) -> Self {
        // Heartbeats are answered by the runtime, so that an idle pool can sleep through them.
        if let Ok(pair) = WebSocketRequestResponsePair::new(PING, PONG) {
            state.set_websocket_auto_response(&pair);
        }
        let core = Access::from_env(&env)
            .and_then(|access| {
                Ok((
                    access,
                    config::catalog(&env)?,
                    config::Tuning::from_env(&env)?,
                ))
            })
            .map(|(access, catalog, tuning)| Rc::new(Core::new(state, access, &catalog, tuning)));
        if let Ok(core) = &core {
            core.restore();
        }
        Self { core }
    }

    async fn fetch(&self, request: Request) -> Result<Response> {
        let core = match &self.core {
            Ok(core) => core,
            Err(reason) => return reply::misconfigured(reason),
        };
        match request.path().as_str() {
            "/client" => accept(core, &request, Side::Client),
            "/node" => accept(core, &request, Side::Node),
            "/models" => Response::from_json(&core.live_models()),
            #[cfg(feature = "fault-injection")]
            path if path.starts_with("/fault/") => faults::route(core, path),
            path => reply::no_such_route(&request.method(), path),
        }
    }

    async fn alarm(&self) -> Result<Response> {
        if let Ok(core) = &self.core {
            core.idle_sweep();
        }
        Response::empty()
    }
}

/// Closing a socket that is closing already throws; there is nothing else to do about it then.
fn close_quietly(socket: &WebSocket, code: u16, reason: &str) {
    drop(socket.close(Some(code), Some(reason)));
}

fn accept(core: &Rc<Core>, request: &Request, side: Side) -> Result<Response> {
    let header = |name| request.headers().get(name).ok().flatten();
    let account = header(ACCOUNT_HEADER);
    if core.is_full(SOCKETS_MAX, account.is_none().then_some(STRANGERS_MAX)) {
        return reply::failure(
            Failure::new(
                ErrorCode::QueueFull,
                "this pool has as many connections as it takes",
            )
            .with_retry_after_ms(5_000),
        );
    }
    let bytes: usize = header(BYTES_HEADER)
        .and_then(|bytes| bytes.parse().ok())
        .unwrap_or(0);
    if bytes > CLIENT_FRAME_BYTES_MAX || !core.has_room_for(bytes) {
        return memory_full();
    }
    let pair = WebSocketPair::new()?;
    let id = core.accept(&pair.server, side, account);
    if bytes > 0 && !core.reserve(id, bytes) {
        core.expel(id, CloseCode::GoingAway, "no room");
        return memory_full();
    }
    let mut response = Response::from_websocket(pair.client)?;
    response
        .headers_mut()
        .set("Sec-WebSocket-Protocol", SUBPROTOCOL)?;
    Ok(response)
}

fn memory_full() -> Result<Response> {
    let sentence = "the relay holds as many requests as it can; try again soon";
    reply::failure(Failure::new(ErrorCode::MemoryFull, sentence).with_retry_after_ms(2_000))
}
