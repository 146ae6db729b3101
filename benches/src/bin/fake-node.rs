//! Many nodes with a fake engine: each a real `node-session` on a real socket, but every answer is stamps.
//!
//! One engine per node, and one step of it advances all its jobs, as batching does on a real one.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use benches::directive::Directive;
use benches::stamp::stamp;
use benches::window::Window;
use clap::Parser;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use node_session::{Advance, Config, EngineEvent, Input, JobKey, NodeSession, Output};
use protocol::{Capabilities, DeltaKind, FinishReason, ModelOffer, NodeClass, SUBPROTOCOL, Usage};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// The relay's host and port.
    #[arg(long)]
    address: String,
    /// How many nodes.
    #[arg(long)]
    nodes: u32,
    /// Jobs that each takes at once.
    #[arg(long)]
    slots: u32,
    /// The model that they offer.
    #[arg(long)]
    model: String,
    /// The nodes' key.
    #[arg(long, env = "HELIOGRAPH_KEY", hide_env_values = true)]
    key: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (ready, mut welcomed) = channel(1);
    for number in 0..arguments.nodes {
        let (arguments, ready) = (arguments.clone(), ready.clone());
        tokio::spawn(async move {
            let result = Node::new(&arguments, number, ready).drive().await;
            if let Err(error) = result {
                let mut out = std::io::stderr().lock();
                drop(writeln!(out, "node {number}: {error:#}"));
            }
        });
    }
    for _ in 0..arguments.nodes {
        welcomed.recv().await.context("a node ended")?;
    }
    writeln!(std::io::stdout(), "READY {}", arguments.nodes)?;
    std::future::pending().await
}

/// Steps of a flat-out engine between two looks at a busy socket.
const STEPS_UNHEARD: u32 = 16;

/// A job in the fake engine.
struct Running {
    directive: Directive,
    index: u32,
    is_paused: bool,
}

struct Node {
    arguments: Arguments,
    session: NodeSession,
    began: Instant,
    socket: Option<WebSocketStream<TcpStream>>,
    jobs: BTreeMap<JobKey, Running>,
    step_at: Instant,
    window: Window,
    ready: Option<Sender<()>>,
}

impl Node {
    fn new(arguments: &Arguments, number: u32, ready: Sender<()>) -> Self {
        let config = Config {
            name: format!("fake-{number}"),
            class: NodeClass::Rig,
            software: "fake-node".to_owned(),
            slots: arguments.slots,
            models: vec![ModelOffer {
                model: arguments.model.clone(),
                runtime: "fake".to_owned(),
                context_tokens: 8192,
                capabilities: Capabilities {
                    continuation: true,
                    ..Capabilities::default()
                },
                measured: None,
            }],
            key: None,
            backoff_ms_min: Config::BACKOFF_MS_MIN,
            backoff_ms_max: Config::BACKOFF_MS_MAX,
            machine: None,
        };
        let now = Instant::now();
        Self {
            arguments: arguments.clone(),
            session: NodeSession::new(config, [0; 32]),
            began: now,
            socket: None,
            jobs: BTreeMap::new(),
            step_at: now,
            window: Window::default(),
            ready: Some(ready),
        }
    }

    async fn drive(mut self) -> Result<()> {
        loop {
            self.act().await?;
            if self.is_flat_out() {
                self.turn().await?;
                continue;
            }
            let tick_at = self.session.poll_timeout().map_or_else(
                || Instant::now() + Duration::from_mins(1),
                |due| self.began + Duration::from_millis(due),
            );
            let is_working = self.is_working();
            let socket = self.socket.as_mut().context("no connection")?;
            tokio::select! {
                message = socket.next() => self.hear(message)?,
                () = sleep_until(self.step_at), if is_working => self.step(),
                () = sleep_until(tick_at) => self.handle(Input::Tick),
            }
        }
    }

    /// A turn without waiting: what came, then a step of the engine; several where nothing can be sent meanwhile, as an
    /// engine in a thread of its own would do.
    async fn turn(&mut self) -> Result<()> {
        let socket = self.socket.as_mut().context("no connection")?;
        if let Some(message) = socket.next().now_or_never() {
            self.hear(message)?;
        }
        let steps = if self.window.is_full() {
            STEPS_UNHEARD
        } else {
            1
        };
        for _ in 0..steps {
            self.step();
        }
        if self.window.is_full() {
            self.handle(Input::Tick);
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    fn hear(&mut self, message: Option<Result<Message, tungstenite::Error>>) -> Result<()> {
        match message.context("the relay went away")?? {
            Message::Text(text) => self.handle(Input::Text(&text)),
            Message::Binary(bytes) => self.handle(Input::Binary(&bytes)),
            Message::Close(frame) => bail!("closed: {frame:?}"),
            Message::Pong(payload) => {
                if self.window.confirm(&payload) {
                    self.handle(Input::Writable);
                }
            }
            Message::Ping(_) | Message::Frame(_) => {}
        }
        Ok(())
    }

    fn handle(&mut self, input: Input<'_>) {
        let now = self.began.elapsed().as_millis();
        self.session
            .handle_input(u64::try_from(now).unwrap_or(u64::MAX), input);
    }

    fn engine(&mut self, event: EngineEvent) {
        self.handle(Input::Engine(event));
    }

    /// Does what the session wants.
    async fn act(&mut self) -> Result<()> {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Connect => {
                    self.connect().await?;
                    self.handle(Input::Connected);
                }
                Output::Send(text) => self.send(Message::text(text)).await?,
                Output::SendBinary(bytes) => {
                    self.send(Message::binary(bytes)).await?;
                    if let Some(ping) = self.window.sent(self.began.elapsed()) {
                        self.send(Message::Ping(ping)).await?;
                    }
                    if self.window.is_full() {
                        self.handle(Input::Busy);
                    }
                }
                Output::Start { key, request, .. } => {
                    let last = request
                        .as_chat()
                        .and_then(|request| request.messages.last());
                    let text = last.map(|message| message.content.as_str());
                    let directive = text.and_then(Directive::find).unwrap_or(Directive {
                        tokens: 1,
                        interval_us: 0,
                    });
                    self.start(key, directive);
                }
                Output::Pause { key } => self.pause(key, true),
                Output::Unpause { key } => self.pause(key, false),
                Output::Check { check, .. } => {
                    self.engine(EngineEvent::Checked {
                        check,
                        failure: None,
                    });
                }
                Output::Stop { key } => {
                    self.jobs.remove(&key);
                    let usage = Usage::default();
                    self.engine(EngineEvent::Cancelled { key, usage });
                }
                Output::Welcomed { .. } => {
                    if let Some(ready) = self.ready.take() {
                        ready.send(()).await?;
                    }
                }
                Output::Refused(failure) => bail!("refused: {failure}"),
                Output::CloseSocket { code } => bail!("asked to close ({code})"),
                Output::Exit(end) => bail!("{end}"),
            }
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<()> {
        let Arguments { address, key, .. } = &self.arguments;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = ClientRequestBuilder::new(format!("ws://{address}/node").parse()?)
            .with_sub_protocol(SUBPROTOCOL)
            .with_header("Authorization", format!("Bearer {key}"));
        let (socket, _) = Box::pin(client_async(request, stream)).await?;
        self.socket = Some(socket);
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<()> {
        let socket = self.socket.as_mut().context("no connection")?;
        Ok(socket.send(message).await?)
    }

    fn is_flat_out(&self) -> bool {
        let mut jobs = self.jobs.values();
        jobs.any(|job| !job.is_paused && job.directive.interval_us == 0)
    }

    fn is_working(&self) -> bool {
        self.jobs.values().any(|job| !job.is_paused)
    }

    fn pause(&mut self, key: JobKey, is_paused: bool) {
        if let Some(job) = self.jobs.get_mut(&key) {
            job.is_paused = is_paused;
        }
    }

    fn start(&mut self, key: JobKey, directive: Directive) {
        self.engine(EngineEvent::Accepted {
            key,
            prompt_tokens: 8,
            context_tokens: 8192,
        });
        if self.jobs.is_empty() {
            self.step_at = Instant::now();
        }
        self.jobs.insert(
            key,
            Running {
                directive,
                index: 0,
                is_paused: false,
            },
        );
    }

    /// One decode step: every job advances by one token.
    fn step(&mut self) {
        let mut finished = Vec::new();
        let mut advances = Vec::new();
        let mut interval_us = 0;
        for (key, job) in self.jobs.iter_mut().filter(|(_, job)| !job.is_paused) {
            interval_us = interval_us.max(job.directive.interval_us);
            if job.index == job.directive.tokens {
                finished.push((*key, job.index));
                continue;
            }
            advances.push(Advance {
                key: *key,
                kind: DeltaKind::Text,
                tokens: vec![job.index],
                bytes: stamp(job.index).into_bytes(),
            });
            job.index += 1;
        }
        if !advances.is_empty() {
            self.engine(EngineEvent::Step(advances));
        }
        for (key, completion_tokens) in finished {
            self.jobs.remove(&key);
            let usage = Usage {
                prompt_tokens: 8,
                completion_tokens,
                cached_tokens: 0,
            };
            let finish_reason = FinishReason::Stop;
            self.engine(EngineEvent::Finished {
                key,
                finish_reason,
                usage,
            });
        }
        self.step_at += Duration::from_micros(interval_us);
    }
}
