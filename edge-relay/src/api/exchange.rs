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
//! Dropping an [`Exchange`] cancels its job: that is how an aborted HTTP request stops the node.

mod line;

use std::cell::RefCell;
use std::future::pending;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use client_session::{ClientSession, Event, Input, Millis, Output, Settings};
use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use protocol::{ChatRequest, JobId};
use worker::{Delay, Env, Result, WebSocket};

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
    dialing: Option<LocalBoxFuture<'static, Option<WebSocket>>>,
    /// Called when a message has come.
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
    Dialled(Option<WebSocket>),
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
        let mut exchange = Self {
            dial,
            session: session(),
            job,
            line: None,
            dialing: None,
            hook: Hook::default(),
            _on_abort: OnAbort::new(signal, &ending)?,
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
    pub(crate) fn submit(&mut self, model: String, request: ChatRequest) {
        let request = Box::new(request);
        let job = self.job;
        self.step(Input::Submit {
            job,
            model,
            request,
        });
    }

    /// Waits for what happens next; `None` after the job has ended.
    pub(crate) async fn next(&mut self) -> Option<Happening> {
        let quiet_at = now() + QUIET_MS;
        loop {
            if let Some(event) = self.next_ready() {
                return Some(Happening::Event(event));
            }
            if !self.session.is_busy() {
                return None;
            }
            let now = now();
            if now >= quiet_at {
                return Some(Happening::Quiet);
            }
            let due = self.session.poll_timeout().unwrap_or(Millis::MAX);
            let wait = due.min(quiet_at).saturating_sub(now).max(1);
            let timer = Delay::from(Duration::from_millis(wait));
            let incoming = match select(pin!(self.incoming()), timer).await {
                Either::Left((incoming, _)) => Some(incoming),
                Either::Right(((), _)) => None,
            };
            match incoming {
                Some(incoming) => self.take(incoming),
                None => self.step(Input::Tick),
            }
        }
    }

    /// What has already come, without waiting: several tokens share one chunk when the reader is behind.
    pub(crate) fn next_ready(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.flush() {
                return Some(event);
            }
            let incoming = self.incoming().now_or_never()?;
            self.take(incoming);
        }
    }

    /// From here on `woken` is called when a message has come: for those who take [`Self::next_ready`] without waiting
    /// for [`Self::next`]. They also have to care for [`Self::take_dialing`] and [`Self::due`].
    pub(crate) fn listen(&self, woken: impl Fn() + 'static) {
        self.hook.replace(Some(Rc::new(woken)));
    }

    /// The next socket, if one is to be waited for: the answer is for [`Self::dialled`].
    pub(crate) fn take_dialing(&mut self) -> Option<LocalBoxFuture<'static, Option<WebSocket>>> {
        self.dialing.take()
    }

    /// What became of the next socket.
    pub(crate) fn dialled(&mut self, socket: Option<WebSocket>) {
        self.take(Incoming::Dialled(socket));
    }

    /// When [`Self::tick`] is due.
    pub(crate) fn due(&self) -> Option<Millis> {
        self.session.poll_timeout()
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self) {
        self.step(Input::Tick);
    }

    /// Whether the job is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.session.is_busy()
    }

    /// Safe to drop half-way: nothing is lost by it.
    async fn incoming(&mut self) -> Incoming {
        if let Some(dialing) = &mut self.dialing {
            let socket = dialing.await;
            self.dialing = None;
            return Incoming::Dialled(socket);
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
            Incoming::Dialled(Some(socket)) => {
                if self.pick_up(&socket).is_err() {
                    self.lose(NO_CLOSE_CODE);
                }
            }
            Incoming::Dialled(None) => self.lose(NO_CLOSE_CODE),
        }
    }

    fn pick_up(&mut self, socket: &WebSocket) -> Result<()> {
        self.line = Some(Line::new(socket.as_ref().clone(), &self.hook)?);
        socket.accept()?;
        self.ending.borrow_mut().socket = Some(socket.as_ref().clone());
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
                Output::Connect if self.ending.borrow().is_over => {
                    // The HTTP client has gone away meanwhile.
                    self.session = session();
                    return Some(Event::Interrupted);
                }
                Output::Connect => {
                    self.hang_up();
                    self.dialing = Some(self.dial.clone().open().boxed_local());
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
                Output::Welcomed { .. } => {}
            }
        }
        None
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.ending.borrow_mut().end();
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
