//! One HTTP request's conversation with the pool: the Worker is an ordinary client there, through `client-session`.
//!
//! Dropping an [`Exchange`] cancels its job: that is how an aborted HTTP request stops the node.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use client_session::{ClientSession, Event, Input, Output, Settings};
use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::future::{Either, select};
use futures_util::{FutureExt, StreamExt};
use protocol::{ChatRequest, ClientToRelay, JobId, encode};
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use worker::{Date, Delay, Result, WebSocket};

use crate::random::random;

/// How long nothing may be written to the HTTP client. One that closed its end is noticed when it is written to and not
/// before (it may merely have said all it had to say), so this is how long a slot can be wasted on one that is gone.
/// Proxies, too, drop a connection that says nothing for long.
pub(crate) const QUIET_MS: u64 = 1_000;

fn settings() -> Settings {
    Settings {
        seed: u64::from_le_bytes(random()),
        stays: false,
        give_up_ms: 60_000,
    }
}

/// What happens while an answer is awaited.
#[derive(Debug)]
pub(crate) enum Happening {
    /// Something happened to the job.
    Event(Event),
    /// Nothing happened for a second.
    Quiet,
}

/// What the socket's listeners pass on.
enum Message {
    Text(String),
    Binary(Vec<u8>),
    Closed,
}

/// A job under way.
pub(crate) struct Exchange {
    socket: WebSocket,
    messages: UnboundedReceiver<Message>,
    session: ClientSession,
    job: JobId,
    ended: Rc<Cell<bool>>,
    _listeners: Listeners,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange")
            .field("job", &self.job)
            .finish_non_exhaustive()
    }
}

/// Closures live as long as JavaScript may call them.
struct Listeners {
    socket: web_sys::WebSocket,
    message: Closure<dyn FnMut(web_sys::MessageEvent)>,
    close: Closure<dyn FnMut(web_sys::Event)>,
    signal: web_sys::AbortSignal,
    abort: Closure<dyn FnMut(web_sys::Event)>,
}

impl Exchange {
    /// Listens to the pool's socket and to the HTTP client's going away.
    pub(crate) fn new(
        socket: WebSocket,
        signal: &web_sys::AbortSignal,
        job: JobId,
    ) -> Result<Self> {
        let (sender, messages) = unbounded();
        let ended = Rc::new(Cell::new(false));
        let listeners = Listeners::new(&socket, signal.clone(), sender, job, &ended)?;
        socket.accept()?;
        if signal.aborted() {
            // It was too late for the listener.
            end(socket.as_ref(), job, &ended);
        }
        let mut session = ClientSession::new(settings());
        session.handle_input(Date::now().as_millis(), Input::Connected { key: None });
        Ok(Self {
            socket,
            messages,
            session,
            job,
            ended,
            _listeners: listeners,
        })
    }

    /// Asks.
    pub(crate) fn submit(&mut self, model: String, request: ChatRequest) {
        let request = Box::new(request);
        let job = self.job;
        self.step(Input::Submit {
            job,
            model,
            request,
        });
        self.flush();
    }

    /// Waits for what happens next; `None` after the job has ended.
    pub(crate) async fn next(&mut self) -> Option<Happening> {
        loop {
            if let Some(event) = self.flush() {
                return Some(Happening::Event(event));
            }
            if !self.session.is_busy() {
                return None;
            }
            let quiet = Delay::from(Duration::from_millis(QUIET_MS));
            match select(self.messages.next(), quiet).await {
                Either::Left((message, _)) => self.take(message.unwrap_or(Message::Closed)),
                Either::Right(((), _)) => return Some(Happening::Quiet),
            }
        }
    }

    /// What has already come, without waiting: several tokens share one chunk when the reader is behind.
    pub(crate) fn next_ready(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.flush() {
                return Some(event);
            }
            let message = self.messages.next().now_or_never()??;
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Text(text) => self.step(Input::Text(&text)),
            Message::Binary(bytes) => self.step(Input::Binary(&bytes)),
            Message::Closed => self.step(Input::Closed { code: 1006 }),
        }
    }

    fn step(&mut self, input: Input<'_>) {
        self.session.handle_input(Date::now().as_millis(), input);
    }

    /// Sends what is to be sent, up to the next event.
    fn flush(&mut self) -> Option<Event> {
        while let Some(output) = self.session.poll_output() {
            match output {
                // A socket that cannot send any more says so by its close event.
                Output::Send(text) => drop(self.socket.send_with_str(text)),
                Output::Event { event, .. } => {
                    // After the last event there is nothing to cancel.
                    self.ended.set(!self.session.is_busy());
                    return Some(event);
                }
                // This socket has one job: what the pool could not read was its submission.
                Output::Refused(failure) => {
                    self.ended.set(true);
                    self.session = ClientSession::new(settings());
                    return Some(Event::Failed(failure));
                }
                Output::Connect | Output::Welcomed { .. } => {}
            }
        }
        None
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        end(self.socket.as_ref(), self.job, &self.ended);
    }
}

/// Cancels the job unless it has ended, and closes the socket; safe to call twice.
fn end(socket: &web_sys::WebSocket, job: JobId, ended: &Cell<bool>) {
    if !ended.replace(true) {
        drop(socket.send_with_str(&encode(&ClientToRelay::Cancel { job })));
    }
    drop(socket.close_with_code(1000));
}

impl Listeners {
    fn new(
        socket: &WebSocket,
        signal: web_sys::AbortSignal,
        sender: UnboundedSender<Message>,
        job: JobId,
        ended: &Rc<Cell<bool>>,
    ) -> Result<Self> {
        let socket: web_sys::WebSocket = socket.as_ref().clone();
        let messages = sender.clone();
        let message = Closure::new(move |event: web_sys::MessageEvent| {
            let data = event.data();
            let message = match data.as_string() {
                Some(text) => Message::Text(text),
                None => Message::Binary(js_sys::Uint8Array::new(&data).to_vec()),
            };
            // The receiver is gone only when nobody wants the answer any more.
            drop(messages.unbounded_send(message));
        });
        let close =
            Closure::new(move |_: web_sys::Event| drop(sender.unbounded_send(Message::Closed)));
        let abort = Closure::new({
            let (socket, ended) = (socket.clone(), Rc::clone(ended));
            move |_: web_sys::Event| end(&socket, job, &ended)
        });
        socket.add_event_listener_with_callback("message", message.as_ref().unchecked_ref())?;
        socket.add_event_listener_with_callback("close", close.as_ref().unchecked_ref())?;
        socket.add_event_listener_with_callback("error", close.as_ref().unchecked_ref())?;
        signal.add_event_listener_with_callback("abort", abort.as_ref().unchecked_ref())?;
        let mut session = ClientSession::new(settings());
        session.handle_input(Date::now().as_millis(), Input::Connected { key: None });
        Ok(Self {
            socket,
            message,
            close,
            signal,
            abort,
        })
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        let (message, close) = (
            self.message.as_ref().unchecked_ref(),
            self.close.as_ref().unchecked_ref(),
        );
        drop(
            self.socket
                .remove_event_listener_with_callback("message", message),
        );
        drop(
            self.socket
                .remove_event_listener_with_callback("close", close),
        );
        drop(
            self.socket
                .remove_event_listener_with_callback("error", close),
        );
        let abort = self.abort.as_ref().unchecked_ref();
        drop(
            self.signal
                .remove_event_listener_with_callback("abort", abort),
        );
    }
}
