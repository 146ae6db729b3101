//! The WebSocket to the relay: opens it, keeps it, opens it again. What is said over it is `client-session`'s business.

mod socket;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use client_session::{ClientSession, Event, Input, Output};
use leptos::prelude::{TimeoutHandle, set_timeout_with_handle};
use protocol::{CloseCode, Failure, JobId};

use crate::browser;
use crate::link::{Link, pause_ms};
use crate::pulse::{Heard, PROBE, Pulse, Signal, Step};
use crate::state::{Action, Effect};

use self::socket::Socket;

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

#[derive(Default)]
struct Line {
    session: ClientSession,
    socket: Option<Socket>,
    /// Tells a socket's signals from those of its predecessor.
    generation: u32,
    failures: u32,
    key: Option<String>,
    retry: Option<TimeoutHandle>,
    pulse: Pulse,
}

impl Connection {
    /// A connection that is not open yet.
    pub(crate) fn new(key: Option<String>, tell: impl Fn(News) + 'static) -> Self {
        Self(Rc::new(Inner {
            state: RefCell::new(Line {
                key,
                ..Line::default()
            }),
            tell: Box::new(tell),
        }))
    }

    /// Opens it, or opens it anew with what is known by now.
    pub(crate) fn open(&self) {
        let generation = {
            let mut line = self.0.state.borrow_mut();
            if let Some(retry) = line.retry.take() {
                retry.clear();
            }
            line.generation += 1;
            line.pulse = Pulse::default();
            // The old socket's handlers go with it.
            line.socket = None;
            line.generation
        };
        let connection = self.clone();
        let opened = Socket::open(move |signal| connection.signal(generation, signal));
        match opened {
            Some(socket) => self.0.state.borrow_mut().socket = Some(socket),
            None => self.lost(generation, 0),
        }
    }

    /// Tries at once what would be tried later, and doubts what seems open: the network is back, or somebody looks.
    pub(crate) fn hurry(&self) {
        let (waiting, generation, step) = {
            let line = self.0.state.borrow();
            (line.retry.is_some(), line.generation, line.pulse.doubt())
        };
        if waiting {
            self.open();
        } else {
            self.step(generation, step);
        }
    }

    /// Shows the relay a key from now on.
    pub(crate) fn set_key(&self, key: String) {
        self.0.state.borrow_mut().key = Some(key);
        self.open();
    }

    /// Gives up until [`Self::set_key`].
    pub(crate) fn want_key(&self) {
        let refused = {
            let mut line = self.0.state.borrow_mut();
            line.generation += 1;
            line.socket = None;
            if let Some(retry) = line.retry.take() {
                retry.clear();
            }
            line.key.is_some()
        };
        self.session(Input::Closed);
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
                request,
            }),
            Effect::Cancel(job) => self.session(Input::Cancel { job }),
            Effect::Save => {}
        }
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
            self.lost(generation, 0);
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
        let retry = CloseCode::may_retry(code);
        {
            let mut line = self.0.state.borrow_mut();
            line.generation += 1;
            line.socket = None;
            if retry {
                let connection = self.clone();
                let pause = pause_ms(line.failures, browser::random());
                line.failures = line.failures.saturating_add(1);
                line.retry = set_timeout_with_handle(
                    move || connection.open(),
                    Duration::from_secs_f64(pause / 1000.0),
                )
                .ok();
            }
        }
        self.session(Input::Closed);
        (self.0.tell)(News::Action(Action::Disconnected));
        (self.0.tell)(News::Link(match (retry, browser::is_online()) {
            (false, _) => Link::Broken { code },
            (true, true) => Link::Reconnecting,
            (true, false) => Link::Offline,
        }));
    }

    fn session(&self, input: Input<'_>) {
        let outputs: Vec<Output> = {
            let session = &mut self.0.state.borrow_mut().session;
            session.handle_input(browser::now_ms(), input);
            std::iter::from_fn(|| session.poll_output()).collect()
        };
        for output in outputs {
            match output {
                Output::Send(text) => {
                    if let Some(socket) = &self.0.state.borrow().socket {
                        socket.send(&text);
                    }
                }
                Output::Welcomed { .. } => self.welcomed(),
                Output::Refused(failure) => (self.0.tell)(News::Refused(failure)),
                Output::Event { job, event } => self.progress(job, event),
            }
        }
    }

    fn welcomed(&self) {
        self.0.state.borrow_mut().failures = 0;
        (self.0.tell)(News::Link(Link::Open));
        (self.0.tell)(News::Action(Action::Welcomed));
    }

    fn progress(&self, job: JobId, event: Event) {
        (self.0.tell)(News::Action(Action::Progress { job, event }));
    }
}
