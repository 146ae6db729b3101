//! WebSocket routes: who it is, then on to the pool. Headers that the pool trusts are made here and never passed through.

use protocol::SUBPROTOCOL;
use worker::{Env, Headers, Method, Request, RequestInit, Response, Result, Stub};

use crate::auth::{Claims, Identity};
use crate::config::Access;
use crate::reply;

/// The account that the Worker vouches for; absent while the socket has yet to say `hello`.
pub(crate) const ACCOUNT_HEADER: &str = "x-heliograph-account";
/// Bytes that an HTTP client is about to send, so that the pool can refuse before they are read.
pub(crate) const BYTES_HEADER: &str = "x-heliograph-bytes";

/// The one pool, until the Directory spreads sockets over several.
const POOL_NAME: &str = "pool-1";

/// A browser, a terminal: anything that asks.
pub(crate) async fn client(request: &Request, env: &Env, access: &Access) -> Result<Response> {
    let identity = Claims::of(&request.url()?, request.headers()).client(access);
    connect(request, env, "/client", identity).await
}

/// Anything that answers.
pub(crate) async fn node(request: &Request, env: &Env, access: &Access) -> Result<Response> {
    let identity = Claims::of(&request.url()?, request.headers()).node(access);
    connect(request, env, "/node", identity).await
}

/// The pool's stub.
pub(crate) fn pool(env: &Env) -> Result<Stub> {
    env.durable_object("POOL")?.get_by_name(POOL_NAME)
}

/// A request for a WebSocket to the pool, with the headers that the pool trusts.
pub(crate) fn to_pool(path: &str, account: Option<&str>, bytes: Option<usize>) -> Result<Request> {
    let headers = Headers::new();
    headers.set("Upgrade", "websocket")?;
    headers.set("Sec-WebSocket-Protocol", SUBPROTOCOL)?;
    if let Some(account) = account {
        headers.set(ACCOUNT_HEADER, account)?;
    }
    if let Some(bytes) = bytes {
        headers.set(BYTES_HEADER, &bytes.to_string())?;
    }
    let mut init = RequestInit::new();
    init.with_method(Method::Get).with_headers(headers);
    Request::new_with_init(&format!("https://pool{path}"), &init)
}

async fn connect(request: &Request, env: &Env, path: &str, identity: Identity) -> Result<Response> {
    let offered = |name: &str, wanted: &str| {
        let value = request
            .headers()
            .get(name)
            .ok()
            .flatten()
            .unwrap_or_default();
        value
            .split(',')
            .any(|part| part.trim().eq_ignore_ascii_case(wanted))
    };
    if !offered("Upgrade", "websocket") {
        return reply::upgrade_required("this address speaks WebSocket only");
    }
    if !offered("Sec-WebSocket-Protocol", SUBPROTOCOL) {
        return reply::upgrade_required("offer the WebSocket subprotocol heliograph.v1");
    }
    let account = match identity {
        Identity::Known(account) => Some(account),
        Identity::Anonymous => None,
        Identity::Refused(reason) => return reply::unauthorized(reason),
    };
    let request = to_pool(path, account.as_deref(), None)?;
    pool(env)?.fetch_with_request(request).await
}
