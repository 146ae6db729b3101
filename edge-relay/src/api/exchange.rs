//! One HTTP request's conversation with the pool: the Worker is an ordinary client there, through `client-session`.
//!
//! ```text
//! pool ── socket ──▶ line (queue, at most a window) ──▶ session ──▶ events, when the HTTP client's stream asks for more
//!   ▲                                                      │
//!   └──── acknowledgements, resume on a new socket ────────┘
//! ```
//!
//! The session is fed only by [`Exchange::next`] and [`Exchange::next_ready`], so it acknowledges only what the HTTP
//! client's stream has asked for. What a reader leaves unread thus stops its node after a window, and what waits here in
//! the meantime is bounded by [`line::QUEUED_BYTES_MAX`].
//!
//! Dropping an [`Exchange`] cancels its job: that is how an aborted HTTP request stops the node. Between two sockets a
//! [`farewell`] does it.

mod farewell;
mod line;

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use client_session::{ClientSession, Event, Input, Millis, Output, Settings};
use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use protocol::{JobId, JobRequest};
use worker::{Context, Delay, Env, Result, WebSocket};

use crate::api::exchange::line::{Ending, Hook, Line, Message, OnAbort};
use crate::random::random;
use crate::upgrade;

/// How long nothing may be written to the HTTP client. One that closed its end is noticed when it is written to and not
/// before (it may merely have said all it had to say), so this is how long a slot can be wasted on one that is gone.
/// Proxies, too, drop a connection that says nothing for long.
pub(crate) const QUIET_MS: u64 = 1_000;

/// How long the pool may be away before the HTTP client hears that its answer is lost: longer than any restart, shorter
/// than the time for which libraries wait.
const GIVE_UP_MS: Millis = 60_000;

/// The close code of a connection that ended without one (RFC 6455).
pub(crate) const NO_CLOSE_CODE: u16 = 1006;

/// What happens while an answer is awaited.
#[derive(Debug)]
pub(crate) enum Happening {
    /// Something happened to the job.
    Event(Event),
    /// Nothing happened for a second.
    Quiet,
}

/// The way to the pool, as often as it takes.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    /// The Worker's bindings.
    pub(crate) env: Env,
    /// Who asks.
    pub(crate) account: String,
    /// The HTTP request's, which can outlive it for a while.
    pub(crate) context: Rc<Context>,
}

/// What became of a dial.
pub(crate) struct Dialled {
    number: u64,
    socket: Option<WebSocket>,
}

impl Dialled {
    /// Nobody needs it any more.
    pub(crate) fn decline(self) {
        if let Some(socket) = &self.socket {
            decline(socket);
        }
    }
}

/// Lets go of a socket that will not be used: it has to be accepted before it can be closed.
pub(crate) fn decline(socket: &WebSocket) {
    drop(socket.accept());
    drop(socket.close(Some(1000), Some("")));
}

impl Dial {
    /// A new socket, or none.
    async fn open(self) -> Option<WebSocket> {
        let upgrade = upgrade::to_pool("/client", Some(&self.account), None).ok()?;
        let pool = upgrade::pool(&self.env).ok()?;
        pool.fetch_with_request(upgrade).await.ok()?.websocket()
    }
}

/// A job under way.
pub(crate) struct Exchange {
    dial: Dial,
    session: ClientSession,
    job: JobId,
    /// The present socket.
    line: Option<Line>,
    /// The next one.
    dialing: Option<LocalBoxFuture<'static, Dialled>>,
    /// Of the newest dial. One that was given up may still come back, and must not displace a later one's socket.
    dials: u64,
    /// Called when a message has come, and when the HTTP client has gone.
    hook: Hook,
    ending: Rc<RefCell<Ending>>,
    _on_abort: OnAbort,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange")
            .field("job", &self.job)
            .finish_non_exhaustive()
    }
}

/// What came while the session waited.
enum Incoming {
    Message(Message),
    Dialled(Dialled),
}

impl Exchange {
    /// Listens to the pool's socket and to the HTTP client's going away.
    pub(crate) fn new(
        dial: Dial,
        socket: &WebSocket,
        signal: &web_sys::AbortSignal,
        job: JobId,
    ) -> Result<Self> {
        let ending = Rc::new(RefCell::new(Ending::new(job)));
        let hook = Hook::default();
        let mut exchange = Self {
            dial,
            session: session(),
            job,
            line: None,
            dialing: None,
            dials: 0,
            _on_abort: OnAbort::new(signal, &ending, &hook)?,
            hook,
            ending,
        };
        exchange.pick_up(socket)?;
        if signal.aborted() {
            // It was too late for the listener.
            exchange.ending.borrow_mut().end();
        }
        Ok(exchange)
    }

    /// Asks.
    pub(crate) fn submit(&mut self, model: String, request: JobRequest) {
        let request = Box::new(request);
        let job = self.job;
        self.step(Input::Submit {
            job,
            model,
            request,
        });
    }

    /// Waits for what happens next; `None` after the job has ended and once the HTTP client has gone.
    pub(crate) async fn next(&mut self) -> Option<Happening> {
        let quiet_at = now() + QUIET_MS;
        loop {
            if let Some(event) = self.next_ready() {
                return Some(Happening::Event(event));
            }
            if self.is_over() || !self.session.is_busy() {
                return None;
            }
            let now = now();
            if now >= quiet_at {
                return Some(Happening::Quiet);
            }
            let due = self.session.poll_timeout().unwrap_or(Millis::MAX);
            let wait = due.min(quiet_at).saturating_sub(now).max(1);
            let timer = Delay::from(Duration::from_millis(wait));
            let ending = Rc::clone(&self.ending);
            let over = poll_fn(move |context| ending.borrow_mut().poll_over(context));
            let incoming = match select(pin!(self.incoming()), select(timer, over)).await {
                Either::Left((incoming, _)) => Some(incoming),
                Either::Right(_) => None,
            };
            match incoming {
                Some(incoming) => self.take(incoming),
                None => self.step(Input::Tick),
            }
        }
    }

    /// What has already come, without waiting: several tokens share one chunk when the reader is behind.
    pub(crate) fn next_ready(&mut self) -> Option<Event> {
        while !self.is_over() {
            if let Some(event) = self.flush() {
                return Some(event);
            }
            let incoming = self.incoming().now_or_never()?;
            self.take(incoming);
        }
        None
    }

    /// From here on `woken` is called when a message has come or the HTTP client has gone: for those who take [`Self::next_ready`] without waiting
    /// for [`Self::next`]. They also have to care for [`Self::take_dialing`] and [`Self::due`].
    pub(crate) fn listen(&self, woken: impl Fn() + 'static) {
        self.hook.replace(Some(Rc::new(woken)));
    }

    /// The next socket, if one is to be waited for: the answer is for [`Self::dialled`].
    pub(crate) fn take_dialing(&mut self) -> Option<LocalBoxFuture<'static, Dialled>> {
        self.dialing.take()
    }

    /// What became of the next socket.
    pub(crate) fn dialled(&mut self, dialled: Dialled) {
        self.take(Incoming::Dialled(dialled));
    }

    /// When [`Self::tick`] is due.
    pub(crate) fn due(&self) -> Option<Millis> {
        self.session.poll_timeout()
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self) {
        self.step(Input::Tick);
    }

    /// Whether nothing more will come: the job's last event has been taken, or the HTTP client has gone.
    pub(crate) fn is_over(&self) -> bool {
        self.ending.borrow().is_over
    }

    /// Whether the job is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.session.is_busy()
    }

    /// Safe to drop half-way: nothing is lost by it.
    async fn incoming(&mut self) -> Incoming {
        if let Some(dialing) = &mut self.dialing {
            let dialled = dialing.await;
            self.dialing = None;
            return Incoming::Dialled(dialled);
        }
        match &mut self.line {
            Some(line) => Incoming::Message(line.next().await),
            None => pending().await,
        }
    }

    fn take(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Message(Message::Text(text)) => self.step(Input::Text(&text)),
            Incoming::Message(Message::Binary(bytes)) => self.step(Input::Binary(&bytes)),
            Incoming::Message(Message::Closed { code }) => self.lose(code),
            Incoming::Dialled(dialled) if dialled.number != self.dials || self.is_over() => {
                dialled.decline();
            }
            Incoming::Dialled(Dialled { socket, number: _ }) => {
                let is_up = socket.is_some_and(|socket| self.pick_up(&socket).is_ok());
                if !is_up {
                    self.lose(NO_CLOSE_CODE);
                }
            }
        }
    }

    fn pick_up(&mut self, socket: &WebSocket) -> Result<()> {
        self.hang_up();
        self.line = Some(Line::new(socket.as_ref().clone(), &self.hook)?);
        socket.accept()?;
        self.ending.borrow_mut().begin(socket.as_ref().clone());
        self.step(Input::Connected { key: None });
        Ok(())
    }

    fn lose(&mut self, code: u16) {
        self.hang_up();
        self.step(Input::Closed { code });
    }

    fn hang_up(&mut self) {
        self.line = None;
        self.dialing = None;
        self.ending.borrow_mut().hang_up();
    }

    fn step(&mut self, input: Input<'_>) {
        self.session.handle_input(now(), input);
    }

    /// Does what is to be done, up to the next event.
    fn flush(&mut self) -> Option<Event> {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(text) => {
                    // A socket that cannot send any more says so by its close event.
                    if let Some(line) = &self.line {
                        line.send(&text);
                    }
                }
                Output::Connect => {
                    self.hang_up();
                    self.dials += 1;
                    let (number, dial) = (self.dials, self.dial.clone());
                    let dialing = dial.open().map(move |socket| Dialled { number, socket });
                    self.dialing = Some(dialing.boxed_local());
                }
                Output::Event { event, .. } => {
                    if !self.session.is_busy() {
                        self.ending.borrow_mut().is_over = true;
                    }
                    return Some(event);
                }
                // This socket has one job: what the pool could not read was its submission.
                Output::Refused(failure) => {
                    self.ending.borrow_mut().is_over = true;
                    self.session = session();
                    return Some(Event::Failed(failure));
                }
                Output::Welcomed { .. } => self.ending.borrow_mut().welcome(),
            }
        }
        None
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let owes_cancel = {
            let mut ending = self.ending.borrow_mut();
            ending.end();
            ending.take_debt()
        };
        if owes_cancel {
            let session = std::mem::replace(&mut self.session, session());
            let farewell = farewell::say(self.dial.clone(), session, self.job);
            self.dial.context.wait_until(farewell);
        }
    }
}

fn session() -> ClientSession {
    ClientSession::new(Settings {
        seed: u64::from_le_bytes(random()),
        stays: false,
        give_up_ms: GIVE_UP_MS,
    })
}

/// Now, in one call to the platform.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "invariant: milliseconds since 1970 are a whole number below 2^53"
)]
pub(crate) fn now() -> Millis {
    js_sys::Date::now() as Millis
}
