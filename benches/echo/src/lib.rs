//! The platform's floor: a Durable Object with hibernatable sockets in pairs, `/in` and `/out/0`, `/out/1`, …; what comes
//! on an `/in` is sent on the `/out` whose number the frame carries. Two sockets, or a pair for each chat.
//! `cargo xtask bench relay` runs it beside the relay, built by the same tools. Never deployed.

#![expect(
    missing_docs,
    reason = "`durable_object` writes public items without a word about them"
)]

use worker::{
    DurableObject, Env, Request, Response, Result, State, WebSocket, WebSocketIncomingMessage,
    WebSocketPair, durable_object, event,
};

/// Every request goes to the one object.
#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: worker::Context) -> Result<Response> {
    if request.path() == "/health" {
        return Response::ok("ok");
    }
    let stub = env.durable_object("ECHO")?.get_by_name("echo")?;
    stub.fetch_with_request(request).await
}

/// Two sockets.
#[durable_object]
#[derive(Debug)]
pub struct Echo {
    state: State,
}

impl DurableObject for Echo {
    fn new(state: State, _env: Env) -> Self {
        Self { state }
    }

    async fn fetch(&self, request: Request) -> Result<Response> {
        let pair = WebSocketPair::new()?;
        let tag = request.path();
        self.state.accept_websocket_with_tags(&pair.server, &[&tag]);
        let mut response = Response::from_websocket(pair.client)?;
        response
            .headers_mut()
            .set("Sec-WebSocket-Protocol", "heliograph.v1")?;
        Ok(response)
    }

    async fn websocket_message(
        &self,
        _socket: WebSocket,
        message: WebSocketIncomingMessage,
    ) -> Result<()> {
        let WebSocketIncomingMessage::Binary(bytes) = message else {
            return Ok(());
        };
        let pair = bytes.get(12).copied().unwrap_or(0);
        for socket in self.state.get_websockets_with_tag(&format!("/out/{pair}")) {
            socket.send_with_bytes(&bytes)?;
        }
        Ok(())
    }

    async fn websocket_close(
        &self,
        _socket: WebSocket,
        _code: usize,
        _reason: String,
        _clean: bool,
    ) -> Result<()> {
        Ok(())
    }

    async fn websocket_error(&self, _socket: WebSocket, _error: worker::Error) -> Result<()> {
        Ok(())
    }
}
