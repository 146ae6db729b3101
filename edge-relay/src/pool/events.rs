//! What the runtime calls when a socket has something to say.
//!
//! Written by hand instead of by `durable_object`, whose methods are asynchronous: each of those makes a promise, queues
//! a microtask and clones handles, which was a quarter of what a forwarded token cost. Nothing here waits for anything,
//! so nothing needs a promise.

use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast as _, JsValue};

use crate::pool::{Pool, close_quietly};

#[wasm_bindgen]
impl Pool {
    /// A message, text or binary.
    #[wasm_bindgen(js_name = webSocketMessage)]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the runtime hands values over"
    )]
    pub fn web_socket_message(&self, socket: web_sys::WebSocket, message: JsValue) {
        let Ok(core) = &self.core else { return };
        if let Some(bytes) = message.dyn_ref::<js_sys::ArrayBuffer>() {
            core.binary(&socket.into(), &js_sys::Uint8Array::new(bytes).to_vec());
        } else if let Some(text) = message.as_string() {
            core.text(&socket.into(), &text);
        }
    }

    /// The socket is closed.
    #[wasm_bindgen(js_name = webSocketClose)]
    pub fn web_socket_close(&self, socket: web_sys::WebSocket, code: u32) {
        let socket = socket.into();
        if let Ok(core) = &self.core {
            core.left(&socket);
        }
        // The peer's close must be answered, or it waits; a code that may not be sent back (1005, 1006) becomes 1000.
        let code = u16::try_from(code)
            .ok()
            .filter(|code| !matches!(code, 1004..=1006 | 1015));
        close_quietly(&socket, code.unwrap_or(1000), "");
    }

    /// The socket broke.
    #[wasm_bindgen(js_name = webSocketError)]
    pub fn web_socket_error(&self, socket: web_sys::WebSocket) {
        if let Ok(core) = &self.core {
            core.left(&socket.into());
        }
    }
}
