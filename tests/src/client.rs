//! A well-behaved WebSocket client: the brain that the chat page has, on a native socket. Like the page it comes back
//! by itself when its connection is lost.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client_session::{ClientSession, Event, Input, Output, Settings};
use futures_util::{SinkExt as _, StreamExt as _};
use protocol::chat::{ChatMessage, ChatRequest, LogitBias, Sampling};
use protocol::{DeltaKind, FinishReason, JobId, Role, Speed, Usage};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::raw::connect;
use crate::{Network, within};

/// Ids of the tokens with which the model ends: `<|endoftext|>` and `<|im_end|>`.
const END_TOKENS: [u32; 2] = [0, 2];

/// One user message, answered with at most `tokens` tokens, always the likeliest.
pub fn ask(prompt: &str, tokens: u32) -> ChatRequest {
    ChatRequest {
        messages: vec![ChatMessage {
            role: Role::User,
            content: prompt.to_owned(),
            ..ChatMessage::default()
        }],
        sampling: Sampling {
            temperature: Some(0.0),
            ..Sampling::default()
        },
        max_tokens: Some(tokens),
        ..ChatRequest::default()
    }
}

/// The same, but the model may not end by itself: the answer has exactly `tokens` tokens unless it is stopped.
pub fn endless(prompt: &str, tokens: u32) -> ChatRequest {
    let mut request = ask(prompt, tokens);
    request.sampling.logit_bias = END_TOKENS
        .map(|token| LogitBias {
            token,
            bias: -100.0,
        })
        .to_vec();
    request
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// In how many pieces the text came.
    pub pieces: usize,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What it cost.
    pub usage: Usage,
    /// How fast it came.
    pub speed: Speed,
}

/// Longer than any restart of a relay takes on a busy laptop.
const GIVE_UP_MS: u64 = 100_000;

/// A connected client.
#[derive(Debug)]
pub struct Client {
    url: String,
    authorization: String,
    socket: Option<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    session: ClientSession,
    started: Instant,
    /// News that came while a wish was sent.
    unread: VecDeque<Output>,
}

impl Client {
    /// Connects with the network's API key and waits to be welcomed.
    pub async fn connect(network: &Network) -> Result<Self> {
        Self::connect_at(network, &network.socket_url()).await
    }

    /// The same by another way, such as a [`crate::Line`].
    pub async fn connect_at(network: &Network, relay: &str) -> Result<Self> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed)?;
        let mut client = Self {
            url: format!("{relay}/client"),
            authorization: format!("Bearer {}", network.ready.api_key),
            socket: None,
            session: ClientSession::new(Settings {
                seed: u64::from_le_bytes(seed),
                stays: true,
                give_up_ms: GIVE_UP_MS,
            }),
            started: Instant::now(),
            unread: VecDeque::new(),
        };
        within("a client connects", async {
            client.socket = Some(client.dial().await?);
            client.step(Input::Connected { key: None });
            loop {
                match client.poll().await? {
                    Some(Output::Welcomed { .. }) => return Ok(()),
                    Some(other) => bail!("{other:?} before welcome"),
                    None => client.receive().await?,
                }
            }
        })
        .await?;
        Ok(client)
    }

    /// Loses its connection, as a walk out of the house does. It comes back while it waits for events.
    pub fn cut(&mut self) {
        self.closed(1006);
    }

    /// Asks.
    pub async fn submit(&mut self, model: &str, request: ChatRequest) -> Result<JobId> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        let job = JobId::from_random(bytes);
        self.step(Input::Submit {
            job,
            model: model.to_owned(),
            request: Box::new(request.into()),
        });
        self.flush().await?;
        Ok(job)
    }

    /// Stops a job.
    pub async fn cancel(&mut self, job: JobId) -> Result<()> {
        self.step(Input::Cancel { job });
        self.flush().await
    }

    /// The next event of any job.
    pub async fn next(&mut self) -> Result<(JobId, Event)> {
        within("an event of a job", async {
            loop {
                match self.poll().await? {
                    Some(Output::Event { job, event }) => return Ok((job, event)),
                    // It came back.
                    Some(Output::Welcomed { .. }) => {}
                    Some(other) => bail!("{other:?} instead of an event"),
                    None => self.receive().await?,
                }
            }
        })
        .await
    }

    /// Reads events until one is as wanted; a job that breaks before is a fault.
    pub async fn wait_for<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(JobId, &Event) -> Option<T>,
    ) -> Result<T> {
        loop {
            let (job, event) = self.next().await.with_context(|| what.to_owned())?;
            if let Some(found) = wanted(job, &event) {
                return Ok(found);
            }
            match event {
                Event::Failed(failure) => bail!("{failure:?} while waiting for: {what}"),
                Event::Interrupted => bail!("interrupted while waiting for: {what}"),
                Event::Queued { .. }
                | Event::Assigned { .. }
                | Event::Started { .. }
                | Event::Delta { .. }
                | Event::Reconnecting
                | Event::Completed { .. } => {}
            }
        }
    }

    /// Reads a job's answer to its end. Events of other jobs are passed over.
    pub async fn answer(&mut self, job: JobId) -> Result<Answer> {
        let mut text = String::new();
        let mut pieces = 0;
        self.wait_for("the end of an answer", |of, event| match event {
            Event::Delta {
                kind: DeltaKind::Text,
                text: piece,
                ..
            } if of == job => {
                text.push_str(piece);
                pieces += usize::from(!piece.is_empty());
                None
            }
            Event::Completed {
                finish_reason,
                usage,
                speed,
            } if of == job => Some((*finish_reason, *usage, *speed)),
            Event::Queued { .. }
            | Event::Assigned { .. }
            | Event::Started { .. }
            | Event::Delta { .. }
            | Event::Reconnecting
            | Event::Completed { .. }
            | Event::Failed(_)
            | Event::Interrupted => None,
        })
        .await
        .map(|(finish_reason, usage, speed)| Answer {
            text,
            pieces,
            finish_reason,
            usage,
            speed,
        })
    }

    /// Asks and reads the answer to its end.
    pub async fn chat(&mut self, model: &str, request: ChatRequest) -> Result<Answer> {
        let job = self.submit(model, request).await?;
        self.answer(job).await
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn step(&mut self, input: Input<'_>) {
        let now = self.now();
        self.session.handle_input(now, input);
    }

    async fn dial(&self) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>> {
        Ok(connect(&self.url, &[("Authorization", &self.authorization)]).await?)
    }

    fn closed(&mut self, code: u16) {
        self.socket = None;
        self.step(Input::Closed { code });
    }

    /// Does what is to be done, up to the next output that is news.
    async fn poll(&mut self) -> Result<Option<Output>> {
        if let Some(news) = self.unread.pop_front() {
            return Ok(Some(news));
        }
        self.work().await
    }

    async fn work(&mut self) -> Result<Option<Output>> {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Connect => match self.dial().await {
                    Ok(socket) => {
                        self.socket = Some(socket);
                        self.step(Input::Connected { key: None });
                    }
                    Err(_) => self.closed(1006),
                },
                Output::Send(text) => {
                    if let Some(socket) = &mut self.socket
                        && socket.send(Message::text(text)).await.is_err()
                    {
                        self.closed(1006);
                    }
                }
                news @ (Output::Welcomed { .. } | Output::Refused(_) | Output::Event { .. }) => {
                    return Ok(Some(news));
                }
            }
        }
        Ok(None)
    }

    /// Sends what a wish of the user's has produced.
    async fn flush(&mut self) -> Result<()> {
        while let Some(news) = self.work().await? {
            self.unread.push_back(news);
        }
        Ok(())
    }

    /// Waits for a message, a loss, or what the session wants by then.
    async fn receive(&mut self) -> Result<()> {
        let now = self.now();
        let due = self.session.poll_timeout();
        let message = {
            let next = async {
                match &mut self.socket {
                    Some(socket) => socket.next().await,
                    None => std::future::pending().await,
                }
            };
            match due {
                Some(due) => {
                    tokio::time::timeout(Duration::from_millis(due.saturating_sub(now)), next).await
                }
                None => Ok(next.await),
            }
        };
        match message {
            Ok(Some(Ok(Message::Text(text)))) => self.step(Input::Text(&text)),
            Ok(Some(Ok(Message::Binary(bytes)))) => self.step(Input::Binary(&bytes)),
            Ok(Some(Ok(Message::Close(frame)))) => {
                self.closed(frame.map_or(1005, |frame| u16::from(frame.code)));
            }
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => {}
            Ok(Some(Err(_)) | None) => self.closed(1006),
            Err(_) => self.step(Input::Tick),
        }
        Ok(())
    }
}
