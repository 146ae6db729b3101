//! The drive loop: socket, engine, clock and signals in, session outputs out. **No decision here.**
//!
//! ```text
//! socket  ─▶ Input::{Connected, Text, Binary, Closed}      Output::{Connect, Send, SendBinary, CloseSocket} ─▶ socket
//! writer  ─▶ Input::{Busy, Writable}
//! engine  ─▶ Input::Engine                                 Output::{Start, Check, Pause, Unpause, Stop}     ─▶ engine
//! clock   ─▶ Input::Tick                                   Output::Exit                                     ─▶ the end
//! SIGTERM ─▶ Input::DrainRequested
//! ```

mod failure;
mod job_log;
mod marker;
mod produced;
pub(crate) mod socket;
mod start;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::Duration;

use node_session::{End, Input, Millis, NodeSession, Output};
use protocol::{Capabilities, CloseCode, ModelOffer, NodeClass};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use crate::config::Config;
use crate::engine::{Command, EngineEvent};
use crate::operating::board::{Board, Facts, State};
use crate::operating::{machine, server};
use failure::Failure;
use job_log::JobLog;
use marker::Marker;
use produced::ProducedLog;
use socket::{DialError, Heard, Socket};
use start::{Engine, Started};

pub use failure::settings_are_wrong;

/// Not even the rig's own event loop could be made.
const EXIT_START: u8 = 1;
/// A second signal came while draining.
const EXIT_SIGNAL: u8 = 130;

/// To tell the relay which jobs are handed back: as much as a connection's goodbye.
const HAND_BACK_TIME_MAX: Duration = Duration::from_secs(2);

/// How long the engine may take to finish its step at the end.
const ENGINE_END_MAX: Duration = Duration::from_secs(2);

/// What runs jobs here.
const RUNTIME: &str = "llama.cpp";

/// Runs until a signal, or until going on makes no sense. The exit codes are in the help text of [`Config`].
pub fn run(config: &Config) -> ExitCode {
    match try_run(config) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(EXIT_START)
        }
    }
}

/// Says what an operator should know of these settings.
fn warn_of(config: &Config) {
    if !config.relay.is_private() && config.key.is_some() {
        tracing::warn!(relay = %config.relay, "the key travels unencrypted: use wss:// unless this network is trusted");
    }
    if config.log_hashes {
        tracing::warn!(
            "hashes of answers are logged: whoever reads them can guess the text, piece by piece"
        );
    }
}

fn try_run(config: &Config) -> anyhow::Result<u8> {
    warn_of(config);
    let board = Board::default();
    show(config, &board);
    // A failure means that a provider is installed already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut signals = {
        let _context = runtime.enter();
        Signals::listen()?
    };
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let marker = start::mark(config);
    runtime.block_on(async {
        let (ended, is_engine_gone) =
            live(config, &board, &mut signals, seed, marker.as_ref()).await;
        if let Some(marker) = marker {
            marker.end();
        }
        let code = match ended {
            Ok(code) => code,
            Err(failure) => {
                let on = config.failing.on_failure;
                failure.end(on, &board, &mut signals).await
            }
        };
        if is_engine_gone {
            Ok(code)
        } else {
            leave(code)
        }
    })
}

/// From the start to the end. Returns the exit code or why it cannot go on, and whether the engine's thread has ended too.
async fn live(
    config: &Config,
    board: &Board,
    signals: &mut Signals,
    seed: [u8; 32],
    marker: Option<&Marker>,
) -> (Result<u8, Failure>, bool) {
    match start::start(config, board, signals, marker).await {
        Ok(Started::Ready(engine)) => {
            serve(config, board.clone(), marker, engine, seed, signals).await
        }
        Ok(Started::Stopped) => (Ok(0), false),
        Err(failure) => (Err(failure), false),
    }
}

/// Ends the process while a thread of the engine's still runs. An ordinary end would take from under it what llama.cpp
/// and the card's driver keep for the whole process, and turn this exit code into a crash.
fn leave(code: u8) -> ! {
    signal_hook::low_level::exit(i32::from(code))
}

/// Serves the relay to the end. Returns as [`live`] does.
async fn serve(
    config: &Config,
    board: Board,
    marker: Option<&Marker>,
    engine: Engine,
    seed: [u8; 32],
    signals: &mut Signals,
) -> (Result<u8, Failure>, bool) {
    board.set_facts(Facts {
        model: engine.chosen.id.clone(),
        slots: config.slots,
        context_tokens: engine.loaded.context_tokens,
        model_bytes: engine.loaded.model_bytes,
        measured: engine.measured,
    });
    board.set_state(State::Connecting);
    let session = NodeSession::new(session_config(config, &engine), seed);
    let Engine {
        commands,
        mut events,
        thread,
        ..
    } = engine;
    let mut shell = Shell {
        board,
        marker,
        config,
        session,
        began: Instant::now(),
        link: Link::Idle,
        closing: None,
        commands,
        jobs: JobLog::default(),
        produced: ProducedLog::new(config.log_hashes),
        drain_until: None,
        has_handed_back: false,
        ending: None,
    };
    let ended = shell.drive(&mut events, signals).await;
    (ended, shell.end(&mut events, thread).await)
}

/// Begins to say on a local port how the rig is. A rig without it works as well: another one may have the port.
fn show(config: &Config, board: &Board) {
    if config.metrics_port == 0 {
        return;
    }
    let address = SocketAddr::new(config.metrics_host, config.metrics_port);
    match server::start(address, board.clone()) {
        Ok(address) => tracing::info!(%address, "metrics and health"),
        Err(error) => {
            tracing::warn!(%address, %error, "no metrics; choose another port with --metrics-port");
        }
    }
}

fn session_config(config: &Config, engine: &Engine) -> node_session::Config {
    let loaded = &engine.loaded;
    node_session::Config {
        name: config.name.clone(),
        class: NodeClass::Rig,
        software: concat!("rig/", env!("CARGO_PKG_VERSION")).to_owned(),
        slots: config.slots,
        models: vec![ModelOffer {
            model: engine.chosen.id.clone(),
            runtime: RUNTIME.to_owned(),
            context_tokens: loaded.context_tokens,
            capabilities: Capabilities {
                grammar: loaded.has_chat,
                logprobs: loaded.has_chat,
                penalties: loaded.has_chat,
                logit_bias: loaded.has_chat,
                seed: loaded.has_chat,
                continuation: true,
                vision: loaded.has_vision,
                tools: loaded.has_tools,
                chat: loaded.has_chat,
                embeddings: loaded.has_embeddings,
            },
            measured: engine.measured,
        }],
        // The upgrade request carries the key.
        key: None,
        backoff_ms_min: node_session::Config::BACKOFF_MS_MIN,
        backoff_ms_max: node_session::Config::BACKOFF_MS_MAX,
        machine: machine::machine(),
    }
}

type Dial = Pin<Box<dyn Future<Output = Result<Socket, DialError>>>>;

/// Where the connection stands.
enum Link {
    Idle,
    Dialling(Dial),
    Open(Socket),
}

/// What the link has to tell.
enum LinkEvent {
    Dialled(Result<Socket, DialError>),
    Heard(Heard),
}

impl Link {
    /// Waits for what comes next; for ever where nothing can.
    async fn next(&mut self) -> LinkEvent {
        match self {
            Self::Idle => std::future::pending().await,
            Self::Dialling(dial) => LinkEvent::Dialled(dial.await),
            Self::Open(socket) => LinkEvent::Heard(socket.hear().await),
        }
    }
}

struct Shell<'c> {
    config: &'c Config,
    board: Board,
    marker: Option<&'c Marker>,
    session: NodeSession,
    began: Instant,
    link: Link,
    /// The last socket's goodbye, which nothing else waits for.
    closing: Option<tokio::task::JoinHandle<()>>,
    commands: UnboundedSender<Command>,
    jobs: JobLog,
    produced: ProducedLog,
    drain_until: Option<Instant>,
    has_handed_back: bool,
    ending: Option<End>,
}

impl Shell<'_> {
    /// Returns the exit code, or why it cannot go on.
    async fn drive(
        &mut self,
        events: &mut UnboundedReceiver<EngineEvent>,
        signals: &mut Signals,
    ) -> Result<u8, Failure> {
        self.act();
        loop {
            match self.ending {
                Some(End::Drained) => {
                    tracing::info!("drained");
                    return Ok(0);
                }
                Some(end @ End::Refused { .. }) => {
                    return Err(Failure::refused(end.to_string()));
                }
                None => {}
            }
            let tick_at = self.tick_at();
            let drain_until = self.drain_until;
            tokio::select! {
                event = self.link.next() => self.link_event(event),
                event = events.recv() => {
                    let Some(event) = event else {
                        let why = "the engine died, and its jobs go to other nodes; `rig doctor` looks for the cause";
                        self.board.set_broken(why);
                        self.say_the_rest().await;
                        return Err(Failure::engine(why.to_owned()));
                    };
                    self.board.engine_said(&event);
                    self.jobs.engine_said(&event);
                    self.produced.engine_said(&event);
                    self.handle(Input::Engine(event));
                }
                () = sleep_until(tick_at) => self.handle(Input::Tick),
                () = signals.next() => {
                    if drain_until.is_some() {
                        tracing::warn!("second signal: ending now");
                        return Ok(EXIT_SIGNAL);
                    }
                    self.drain();
                }
                () = sleep_until(drain_until.unwrap_or(tick_at)), if drain_until.is_some() => {
                    if self.has_handed_back {
                        return Ok(0);
                    }
                    self.hand_back();
                }
            }
            self.act();
        }
    }

    fn link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Dialled(Ok(socket)) => {
                self.link = Link::Open(socket);
                self.handle(Input::Connected);
            }
            LinkEvent::Dialled(Err(DialError { code, why })) => {
                tracing::warn!(relay = %self.config.relay, why, "no connection");
                self.link = Link::Idle;
                self.handle(Input::Closed { code });
            }
            LinkEvent::Heard(Heard::Written) => self.handle(Input::Writable),
            LinkEvent::Heard(Heard::Text(text)) => self.handle(Input::Text(&text)),
            LinkEvent::Heard(Heard::Binary(bytes)) => self.handle(Input::Binary(&bytes)),
            LinkEvent::Heard(Heard::Closed { code, why }) => {
                tracing::warn!(why, "connection lost");
                self.link = Link::Idle;
                self.board.set_state(State::Connecting);
                self.handle(Input::Closed { code });
            }
        }
    }

    fn drain(&mut self) {
        let patience = Duration::from_secs(u64::from(self.config.drain_seconds));
        self.drain_until = Some(Instant::now() + patience);
        tracing::info!(
            jobs = self.session.job_count(),
            seconds = self.config.drain_seconds,
            "draining: no new jobs"
        );
        self.board.set_state(State::Draining);
        self.handle(Input::DrainRequested);
    }

    /// What is not done goes to other nodes, which go on with it; the words to say so need a moment.
    fn hand_back(&mut self) {
        let jobs = self.session.job_count();
        tracing::warn!(jobs, "drain time is over; handing back the rest");
        self.has_handed_back = true;
        self.drain_until = Some(Instant::now() + HAND_BACK_TIME_MAX);
        self.handle(Input::DrainTimeOver);
    }

    fn handle(&mut self, input: Input<'_>) {
        let now = self.now();
        self.session.handle_input(now, input);
    }

    /// Does what the session wants.
    fn act(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Connect => {
                    let dial = socket::dial(self.config.relay.clone(), self.config.key.clone());
                    self.link = Link::Dialling(Box::pin(dial));
                }
                Output::Send(text) => self.send(Message::text(text)),
                Output::SendBinary(bytes) => self.send(Message::binary(bytes)),
                Output::Start {
                    key,
                    job,
                    attempt,
                    model,
                    request,
                    answer,
                    prefix,
                } => {
                    let begun = answer.as_ref().map_or(0, |answer| answer.bytes());
                    self.jobs.started(key, job, begun);
                    self.produced.started(key, job, attempt, begun);
                    self.command(Command::Start {
                        key,
                        model,
                        request,
                        answer,
                        prefix,
                    });
                }
                Output::Pause { key } => self.command(Command::Pause { key }),
                Output::Unpause { key } => self.command(Command::Unpause { key }),
                Output::Check {
                    check,
                    model: _,
                    request,
                } => self.command(Command::Check { check, request }),
                Output::Stop { key } => {
                    self.jobs.stopping(key);
                    self.command(Command::Stop { key });
                }
                Output::CloseSocket { code } => self.close(code),
                Output::Welcomed { node } => {
                    self.board.set_state(State::Ready);
                    if let Some(marker) = self.marker {
                        marker.is_ready();
                    }
                    tracing::info!(node, relay = %self.config.relay, "ready");
                }
                Output::Refused(failure) => {
                    tracing::warn!(code = ?failure.code, "the relay refused: {failure}");
                }
                Output::Exit(end) => self.ending = Some(end),
            }
        }
    }

    fn command(&self, command: Command) {
        // A dead engine ends its events too, which ends the drive loop.
        drop(self.commands.send(command));
    }

    /// Gives the socket one thing; the session keeps the rest until that is written.
    fn send(&mut self, message: Message) {
        if let Link::Open(socket) = &mut self.link {
            socket.send(message);
            self.handle(Input::Busy);
        }
    }

    fn close(&mut self, code: u16) {
        if let Link::Open(socket) = std::mem::replace(&mut self.link, Link::Idle) {
            self.board.set_state(State::Connecting);
            self.closing = Some(tokio::spawn(socket.close(code)));
        }
    }

    /// The relay hears of the end at once, and the engine may finish its step. Returns whether it is gone.
    async fn end(
        &mut self,
        events: &mut UnboundedReceiver<EngineEvent>,
        thread: JoinHandle<()>,
    ) -> bool {
        self.close(CloseCode::GoingAway.number());
        self.command(Command::Shutdown);
        if let Some(closing) = self.closing.take() {
            // It takes a bounded time, and cannot fail but by a panic, which is told already.
            drop(closing.await);
        }
        engine_end(events, thread).await
    }

    /// Lets the relay hear what there is still to say, for a moment: which jobs the engine failed.
    async fn say_the_rest(&mut self) {
        let until = Instant::now() + HAND_BACK_TIME_MAX;
        while let Link::Open(socket) = &self.link
            && socket.is_busy()
        {
            let Ok(event) = timeout_at(until, self.link.next()).await else {
                return;
            };
            self.link_event(event);
            self.act();
        }
    }

    fn now(&self) -> Millis {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn tick_at(&self) -> Instant {
        /// Nothing is due: look again some time.
        const NOTHING_DUE: Duration = Duration::from_hours(1);
        self.session.poll_timeout().map_or_else(
            || Instant::now() + NOTHING_DUE,
            |due| self.began + Duration::from_millis(due),
        )
    }
}

/// Waits until the engine's thread is gone, but not for ever: one that is stuck ends with the process. Returns whether it
/// is gone.
async fn engine_end(events: &mut UnboundedReceiver<EngineEvent>, thread: JoinHandle<()>) -> bool {
    // The thread drops its sender last.
    let gone = async { while events.recv().await.is_some() {} };
    if timeout(ENGINE_END_MAX, gone).await.is_err() {
        tracing::warn!("the engine does not end; leaving it behind");
        return false;
    }
    if thread.join().is_err() {
        tracing::error!("the engine's thread panicked");
    }
    true
}

/// SIGTERM and Ctrl-C, from the start on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[tokio::test]
    async fn a_stuck_engine_does_not_keep_the_rig_from_ending() {
        let (event_sender, mut events) = unbounded_channel();
        let (release, stuck) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            assert!(stuck.recv().is_err(), "released by the other end's drop");
            drop(event_sender);
        });
        assert!(!engine_end(&mut events, thread).await);
        drop(release);
        assert!(events.recv().await.is_none(), "it was stuck until now");
    }
}
