//! One WebSocket as a stream of signals; dropping it closes it and silences its handlers.

use std::time::Duration;

use js_sys::{Array, ArrayBuffer, JsString, Uint8Array};
use leptos::prelude::{IntervalHandle, set_interval_with_handle, window};
use protocol::SUBPROTOCOL;
use wasm_bindgen::prelude::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{BinaryType, CloseEvent, MessageEvent, WebSocket};

use crate::pulse::Signal;

/// Proxies cut connections that are silent for a minute, some for half of one.
const HEARTBEAT: Duration = Duration::from_secs(25);

pub(super) struct Socket {
    inner: WebSocket,
    heartbeat: Option<IntervalHandle>,
    _opened: Closure<dyn FnMut()>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _closed: Closure<dyn FnMut(CloseEvent)>,
}

impl Socket {
    /// Opens a socket to the relay that served this page; `None` where the browser will not even try.
    pub(super) fn open(tell: impl Fn(Signal) + Clone + 'static) -> Option<Self> {
        let origin = window().location().origin().ok()?;
        let url = format!("{}/client", origin.replacen("http", "ws", 1));
        let protocols = Array::of1(&JsValue::from_str(SUBPROTOCOL));
        let socket = WebSocket::new_with_str_sequence(&url, &protocols).ok()?;
        socket.set_binary_type(BinaryType::Arraybuffer);

        // A handler may end up dropping this very socket, and with it itself: the work is done once it has returned.
        let tell = move |signal: Signal| {
            let tell = tell.clone();
            leptos::prelude::queue_microtask(move || tell(signal));
        };
        let opened = {
            let tell = tell.clone();
            Closure::new(move || tell(Signal::Opened))
        };
        let message = {
            let tell = tell.clone();
            Closure::new(move |event: MessageEvent| {
                let data = event.data();
                if let Some(text) = data.dyn_ref::<JsString>() {
                    tell(Signal::Text(text.into()));
                } else if let Some(buffer) = data.dyn_ref::<ArrayBuffer>() {
                    tell(Signal::Bytes(Uint8Array::new(buffer).to_vec()));
                }
            })
        };
        let closed = {
            let tell = tell.clone();
            Closure::new(move |event: CloseEvent| tell(Signal::Closed(event.code())))
        };
        socket.set_onopen(Some(opened.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(closed.as_ref().unchecked_ref()));
        let heartbeat = set_interval_with_handle(move || tell(Signal::Heartbeat), HEARTBEAT).ok();
        Some(Self {
            inner: socket,
            heartbeat,
            _opened: opened,
            _message: message,
            _closed: closed,
        })
    }

    /// Sends a text; one that cannot be sent is followed by `Closed` anyway.
    pub(super) fn send(&self, text: &str) {
        drop(self.inner.send_with_str(text));
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(heartbeat) = self.heartbeat.take() {
            heartbeat.clear();
        }
        self.inner.set_onopen(None);
        self.inner.set_onmessage(None);
        self.inner.set_onclose(None);
        drop(self.inner.close());
    }
}
