//! A well-behaved WebSocket client: the brain that the chat page has, on a native socket.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use client_session::{ClientSession, Event, Input, Output};
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
            name: None,
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

/// A connected client.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: ClientSession,
    started: Instant,
}

impl Client {
    /// Connects with the network's API key and waits to be welcomed.
    pub async fn connect(network: &Network) -> Result<Self> {
        let key = format!("Bearer {}", network.ready.api_key);
        let url = format!("{}/client", network.socket_url());
        let socket = within("a client connects", async {
            Ok(connect(&url, &[("Authorization", &key)]).await?)
        })
        .await?;
        let mut client = Self {
            socket,
            session: ClientSession::new(),
            started: Instant::now(),
        };
        client.step(Input::Connected { key: None });
        within("welcome", async {
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

    /// Asks.
    pub async fn submit(&mut self, model: &str, request: ChatRequest) -> Result<JobId> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        let job = JobId::from_random(bytes);
        self.step(Input::Submit {
            job,
            model: model.to_owned(),
            request: Box::new(request),
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

    fn step(&mut self, input: Input<'_>) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.session.handle_input(now, input);
    }

    /// Sends what is to be sent, up to the next output that is news.
    async fn poll(&mut self) -> Result<Option<Output>> {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(text) => self.socket.send(Message::text(text)).await?,
                news @ (Output::Welcomed { .. } | Output::Refused(_) | Output::Event { .. }) => {
                    return Ok(Some(news));
                }
            }
        }
        Ok(None)
    }

    /// Sends what a wish of the user's has produced: nothing else can be waiting then.
    async fn flush(&mut self) -> Result<()> {
        match self.poll().await? {
            None => Ok(()),
            Some(news) => bail!("unread: {news:?}"),
        }
    }

    async fn receive(&mut self) -> Result<()> {
        match self.socket.next().await.context("the socket ended")?? {
            Message::Text(text) => self.step(Input::Text(&text)),
            Message::Binary(bytes) => self.step(Input::Binary(&bytes)),
            Message::Close(frame) => bail!("the relay closed the socket: {frame:?}"),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
        Ok(())
    }
}
