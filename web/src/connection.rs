//! The WebSocket to the relay: opens it when `client-session` says so, and knows whether it lives. What is said over it,
//! and when to come back after a loss, is `client-session`'s business.

mod socket;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use client_session::{ClientSession, Event, Input, Output, Settings};
use leptos::prelude::{TimeoutHandle, set_timeout_with_handle};
use protocol::{CloseCode, Failure, JobId};

use crate::browser;
use crate::link::Link;
use crate::pulse::{Heard, PROBE, Pulse, Signal, Step};
use crate::state::{Action, Effect};

use self::socket::Socket;

/// How long an answer waits for the connection: a walk through a tunnel. Whoever has had enough presses stop.
const GIVE_UP: Duration = Duration::from_mins(3);
/// A WebSocket that vanished without a word.
const VANISHED: u16 = 1006;

/// What the page hears from its connection.
#[derive(Debug)]
pub(crate) enum News {
    /// The connection stands differently.
    Link(Link),
    /// The conversation goes on.
    Action(Action),
    /// The relay did not understand something, and named no job.
    Refused(Failure),
}

/// One page's way to the relay; clones share it.
#[derive(Clone)]
pub(crate) struct Connection(Rc<Inner>);

struct Inner {
    state: RefCell<Line>,
    tell: Box<dyn Fn(News)>,
}

struct Line {
    session: ClientSession,
    socket: Option<Socket>,
    /// Tells a socket's signals from those of its predecessor.
    generation: u32,
    key: Option<String>,
    timer: Option<TimeoutHandle>,
    pulse: Pulse,
}

impl Connection {
    /// A connection that is not open yet.
    pub(crate) fn new(key: Option<String>, tell: impl Fn(News) + 'static) -> Self {
        Self(Rc::new(Inner {
            state: RefCell::new(Line {
                session: ClientSession::new(Settings {
                    seed: browser::random().to_bits(),
                    stays: true,
                    give_up_ms: u64::try_from(GIVE_UP.as_millis()).unwrap_or(u64::MAX),
                }),
                socket: None,
                generation: 0,
                key,
                timer: None,
                pulse: Pulse::default(),
            }),
            tell: Box::new(tell),
        }))
    }

    /// Opens it, or opens it anew with what is known by now.
    pub(crate) fn open(&self) {
        let generation = self.let_go();
        let connection = self.clone();
        let opened = Socket::open(move |signal| connection.signal(generation, signal));
        match opened {
            Some(socket) => self.0.state.borrow_mut().socket = Some(socket),
            None => self.lost(generation, VANISHED),
        }
    }

    /// Tries at once what would be tried later, and doubts what seems open: the network is back, or somebody looks.
    pub(crate) fn hurry(&self) {
        self.session(Input::Hurry);
        let (generation, step) = {
            let line = self.0.state.borrow();
            (line.generation, line.pulse.doubt())
        };
        self.step(generation, step);
    }

    /// Shows the relay a key from now on.
    pub(crate) fn set_key(&self, key: String) {
        self.0.state.borrow_mut().key = Some(key);
        self.open();
    }

    /// Gives up until [`Self::set_key`].
    pub(crate) fn want_key(&self) {
        self.let_go();
        let refused = self.0.state.borrow().key.is_some();
        self.session(Input::Closed {
            code: CloseCode::Unauthorized.number(),
        });
        (self.0.tell)(News::Action(Action::Disconnected));
        (self.0.tell)(News::Link(Link::KeyNeeded { refused }));
    }

    /// Carries out what the conversation asks for.
    pub(crate) fn perform(&self, effect: Effect) {
        match effect {
            Effect::Submit {
                job,
                model,
                request,
            } => self.session(Input::Submit {
                job,
                model,
                request: Box::new((*request).into()),
            }),
            Effect::Cancel(job) => self.session(Input::Cancel { job }),
            Effect::Save => {}
        }
    }

    /// Drops the socket, whose handlers go with it.
    fn let_go(&self) -> u32 {
        let mut line = self.0.state.borrow_mut();
        line.generation += 1;
        line.pulse = Pulse::default();
        line.socket = None;
        line.generation
    }

    fn signal(&self, generation: u32, signal: Signal) {
        if self.0.state.borrow().generation != generation {
            return;
        }
        let step = self.0.state.borrow_mut().pulse.notice(&signal);
        self.step(generation, step);
        match signal {
            Signal::Opened => {
                let key = self.0.state.borrow().key.clone();
                self.session(Input::Connected { key });
            }
            Signal::Text(text) => self.session(Input::Text(&text)),
            Signal::Bytes(bytes) => self.session(Input::Binary(&bytes)),
            Signal::Heartbeat => {}
            Signal::Closed(code) => self.lost(generation, code),
        }
    }

    fn step(&self, generation: u32, step: Step) {
        match step {
            Step::Rest => {}
            Step::Ping => self.ping(),
            Step::Probe(then) => {
                self.ping();
                let connection = self.clone();
                leptos::prelude::set_timeout(move || connection.overdue(generation, then), PROBE);
            }
        }
    }

    fn ping(&self) {
        if let Some(socket) = &self.0.state.borrow().socket {
            socket.send(protocol::PING);
        }
    }

    fn overdue(&self, generation: u32, then: Heard) {
        let silent = self.0.state.borrow().pulse.is_silent_since(then);
        // A socket that has meanwhile been replaced is none of its business: `lost` sees to that.
        if silent {
            self.lost(generation, VANISHED);
        }
    }

    fn lost(&self, generation: u32, code: u16) {
        if self.0.state.borrow().generation != generation {
            return;
        }
        let has_key = self.0.state.borrow().key.is_some();
        let unauthorized = code == CloseCode::Unauthorized.number();
        if unauthorized || (code == CloseCode::HelloTimeout.number() && !has_key) {
            self.want_key();
            return;
        }
        self.let_go();
        // The answers first: one that waits for the connection says so itself, and the page need not.
        self.session(Input::Closed { code });
        (self.0.tell)(News::Action(Action::Disconnected));
        (self.0.tell)(News::Link(
            match (CloseCode::may_retry(code), browser::is_online()) {
                (false, _) => Link::Broken { code },
                (true, true) => Link::Reconnecting,
                (true, false) => Link::Offline,
            },
        ));
    }

    fn session(&self, input: Input<'_>) {
        let outputs: Vec<Output> = {
            let session = &mut self.0.state.borrow_mut().session;
            session.handle_input(browser::now_ms(), input);
            std::iter::from_fn(|| session.poll_output()).collect()
        };
        for output in outputs {
            match output {
                Output::Connect => self.open(),
                Output::Send(text) => {
                    if let Some(socket) = &self.0.state.borrow().socket {
                        socket.send(&text);
                    }
                }
                Output::Welcomed { .. } => {
                    (self.0.tell)(News::Link(Link::Open));
                    (self.0.tell)(News::Action(Action::Welcomed));
                }
                Output::Refused(failure) => (self.0.tell)(News::Refused(failure)),
                Output::Event { job, event } => self.progress(job, event),
            }
        }
        self.set_timer();
    }

    /// One timer, always for the next thing that is due.
    fn set_timer(&self) {
        let due = self.0.state.borrow().session.poll_timeout();
        let timer = due.and_then(|due| {
            let connection = self.clone();
            let pause = Duration::from_millis(due.saturating_sub(browser::now_ms()));
            set_timeout_with_handle(move || connection.session(Input::Tick), pause).ok()
        });
        let old = std::mem::replace(&mut self.0.state.borrow_mut().timer, timer);
        if let Some(old) = old {
            old.clear();
        }
    }

    fn progress(&self, job: JobId, event: Event) {
        (self.0.tell)(News::Action(Action::Progress { job, event }));
    }
}
