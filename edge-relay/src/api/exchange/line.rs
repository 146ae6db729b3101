//! One socket to the pool as a bounded queue of messages, and how the conversation over it ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::StreamExt;
use protocol::{ClientToRelay, JobId, encode};
use wasm_bindgen::JsCast;
use wasm_bindgen::closure::Closure;
use worker::Result;

use crate::api::exchange::NO_CLOSE_CODE;

/// What one message weighs beside its content.
const MESSAGE_BYTES: usize = 64;

/// What may wait here for a slow HTTP client. The pool stops its node a window (64 KiB of text) after the last
/// acknowledgement; a frame's header and a message's own weight can make a window of one-byte entries this heavy. A pool
/// that sends more breaks the rules or tells of its queue for hours: the socket is closed, and the session takes the job
/// up again where it was when the client reads on.
pub(crate) const QUEUED_BYTES_MAX: usize = 8 << 20;

/// What is called when a message has come or the HTTP client has gone; nothing for those who wait for it.
pub(crate) type Hook = Rc<RefCell<Option<Rc<dyn Fn()>>>>;

/// Not borrowed during the call: it may end the line that it is called from.
fn call(hook: &Hook) {
    let woken = hook.borrow().clone();
    if let Some(woken) = woken {
        woken();
    }
}

/// What the socket's listeners pass on.
#[derive(Debug)]
pub(crate) enum Message {
    /// A control frame.
    Text(String),
    /// A token frame.
    Binary(Vec<u8>),
    /// The last message.
    Closed {
        /// The close code.
        code: u16,
    },
}

/// A socket that ended without a word.
const CLOSED: Message = Message::Closed {
    code: NO_CLOSE_CODE,
};

impl Message {
    fn bytes(&self) -> usize {
        MESSAGE_BYTES
            + match self {
                Self::Text(text) => text.len(),
                Self::Binary(bytes) => bytes.len(),
                Self::Closed { code: _ } => 0,
            }
    }
}

/// A socket with its listeners. Dropping it lets go of both.
pub(crate) struct Line {
    socket: web_sys::WebSocket,
    messages: UnboundedReceiver<Message>,
    queued_bytes: Rc<Cell<usize>>,
    on_message: Closure<dyn FnMut(web_sys::MessageEvent)>,
    on_close: Closure<dyn FnMut(web_sys::Event)>,
}

impl Line {
    /// Listens to a socket that is about to be accepted.
    pub(crate) fn new(socket: web_sys::WebSocket, hook: &Hook) -> Result<Self> {
        let (sender, messages) = unbounded();
        let queued_bytes = Rc::new(Cell::new(0));
        let on_message = on_message(&socket, sender.clone(), &queued_bytes, hook);
        let hook = Rc::clone(hook);
        let on_close = Closure::new(move |event: web_sys::Event| {
            let close: Option<&web_sys::CloseEvent> = event.dyn_ref();
            let code = close.map_or(NO_CLOSE_CODE, web_sys::CloseEvent::code);
            // The receiver is gone only when nobody wants the answer any more.
            drop(sender.unbounded_send(Message::Closed { code }));
            call(&hook);
        });
        let line = Self {
            socket,
            messages,
            queued_bytes,
            on_message,
            on_close,
        };
        let (socket, close) = (&line.socket, line.on_close.as_ref().unchecked_ref());
        let message = line.on_message.as_ref().unchecked_ref();
        socket.add_event_listener_with_callback("message", message)?;
        socket.add_event_listener_with_callback("close", close)?;
        socket.add_event_listener_with_callback("error", close)?;
        Ok(line)
    }

    /// Sends a control frame.
    pub(crate) fn send(&self, text: &str) {
        drop(self.socket.send_with_str(text));
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Message {
        let message = self.messages.next().await;
        let message = message.unwrap_or(CLOSED);
        let queued = self.queued_bytes.get().saturating_sub(message.bytes());
        self.queued_bytes.set(queued);
        message
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let (message, close) = (
            self.on_message.as_ref().unchecked_ref(),
            self.on_close.as_ref().unchecked_ref(),
        );
        let socket = &self.socket;
        drop(socket.remove_event_listener_with_callback("message", message));
        drop(socket.remove_event_listener_with_callback("close", close));
        drop(socket.remove_event_listener_with_callback("error", close));
    }
}

fn on_message(
    socket: &web_sys::WebSocket,
    sender: UnboundedSender<Message>,
    queued_bytes: &Rc<Cell<usize>>,
    hook: &Hook,
) -> Closure<dyn FnMut(web_sys::MessageEvent)> {
    let (socket, queued_bytes) = (socket.clone(), Rc::clone(queued_bytes));
    let hook = Rc::clone(hook);
    Closure::new(move |event: web_sys::MessageEvent| {
        if queued_bytes.get() > QUEUED_BYTES_MAX {
            return; // Closed already.
        }
        let data = event.data();
        let message = match data.as_string() {
            Some(text) => Message::Text(text),
            None => Message::Binary(js_sys::Uint8Array::new(&data).to_vec()),
        };
        queued_bytes.set(queued_bytes.get() + message.bytes());
        let is_over = queued_bytes.get() > QUEUED_BYTES_MAX;
        let message = if is_over { CLOSED } else { message };
        drop(sender.unbounded_send(message));
        if is_over {
            drop(socket.close_with_code(1000));
        }
        call(&hook);
    })
}

/// Whether the pool takes a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has not heard of the job.
    Unasked,
    /// It has, but not on the present socket, if there is one: it would not listen.
    Away,
    /// It does.
    Welcome,
}

/// How to end the job from wherever its end becomes known: from the answer, from the stream that nobody reads any more,
/// or from the HTTP client's abort, which comes in between.
#[derive(Debug)]
pub(crate) struct Ending {
    /// The present socket.
    pub(crate) socket: Option<web_sys::WebSocket>,
    /// Whether there is nothing left to wait for.
    pub(crate) is_over: bool,
    standing: Standing,
    /// Whether the job was given up while nobody could be told.
    owes_cancel: bool,
    waker: Option<Waker>,
    job: JobId,
}

impl Ending {
    /// Of a job that nobody has heard of.
    pub(crate) const fn new(job: JobId) -> Self {
        Self {
            socket: None,
            is_over: false,
            standing: Standing::Unasked,
            owes_cancel: false,
            waker: None,
            job,
        }
    }

    /// There is a new socket.
    pub(crate) fn begin(&mut self, socket: web_sys::WebSocket) {
        self.hang_up();
        self.socket = Some(socket);
    }

    /// The pool listens, and is asked for the job now.
    pub(crate) const fn welcome(&mut self) {
        self.standing = Standing::Welcome;
    }

    /// Cancels the job unless it has ended, and closes the socket; safe to call twice. Between two sockets nobody can be
    /// told: that is left to [`Self::take_debt`].
    pub(crate) fn end(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            match (self.standing, &self.socket) {
                (Standing::Welcome, Some(socket)) => {
                    let cancel = encode(&ClientToRelay::Cancel { job: self.job });
                    drop(socket.send_with_str(&cancel));
                }
                (Standing::Away | Standing::Welcome, _) => self.owes_cancel = true,
                (Standing::Unasked, _) => {}
            }
        }
        self.hang_up();
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether the pool has yet to be told that the job is not wanted any more; asks once.
    pub(crate) const fn take_debt(&mut self) -> bool {
        std::mem::replace(&mut self.owes_cancel, false)
    }

    /// Ready once it is over.
    pub(crate) fn poll_over(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.is_over {
            return Poll::Ready(());
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Closes the socket: the job may go on over another one.
    pub(crate) fn hang_up(&mut self) {
        if self.standing == Standing::Welcome {
            self.standing = Standing::Away;
        }
        if let Some(socket) = self.socket.take() {
            drop(socket.close_with_code(1000));
        }
    }
}

/// Ends the job when the HTTP client goes away.
pub(crate) struct OnAbort {
    signal: web_sys::AbortSignal,
    closure: Closure<dyn FnMut(web_sys::Event)>,
}

impl OnAbort {
    /// Listens; `hook` is called afterwards, for whoever has something to let go of.
    pub(crate) fn new(
        signal: &web_sys::AbortSignal,
        ending: &Rc<RefCell<Ending>>,
        hook: &Hook,
    ) -> Result<Self> {
        let (ending, hook) = (Rc::clone(ending), Rc::clone(hook));
        let closure = Closure::new(move |_: web_sys::Event| {
            ending.borrow_mut().end();
            call(&hook);
        });
        let on_abort = Self {
            signal: signal.clone(),
            closure,
        };
        let callback = on_abort.closure.as_ref().unchecked_ref();
        signal.add_event_listener_with_callback("abort", callback)?;
        Ok(on_abort)
    }
}

impl Drop for OnAbort {
    fn drop(&mut self) {
        let callback = self.closure.as_ref().unchecked_ref();
        drop(
            self.signal
                .remove_event_listener_with_callback("abort", callback),
        );
    }
}
