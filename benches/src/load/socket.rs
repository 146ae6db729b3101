//! A user on the chat page: `client-session` on a native socket.

use anyhow::{Context as _, Result, bail};
use client_session::{ClientSession, Event, Input, Output, Settings};
use futures_util::{SinkExt as _, StreamExt as _};
use protocol::chat::{ChatMessage, ChatRequest};
use protocol::{JobId, Role, SUBPROTOCOL};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::Load;
use crate::report::Outcome;
use crate::stamp::{for_stamps, now_ns};

/// Opens a socket. `path` begins with a slash.
pub(super) async fn open(load: &Load, path: &str) -> Result<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(&load.address).await?;
    stream.set_nodelay(true)?;
    let request = ClientRequestBuilder::new(format!("ws://{}{path}", load.address).parse()?)
        .with_sub_protocol(SUBPROTOCOL)
        .with_header("Authorization", format!("Bearer {}", load.key));
    let (socket, _) = Box::pin(client_async(request, stream)).await?;
    Ok(socket)
}

/// A connected user.
pub(super) struct Socket {
    stream: WebSocketStream<TcpStream>,
    session: ClientSession,
}

impl Socket {
    /// Connects and waits to be welcomed.
    pub(super) async fn connect(load: &Load) -> Result<Self> {
        let mut socket = Self {
            stream: open(load, "/client").await?,
            session: ClientSession::new(Settings {
                seed: 0,
                stays: false,
                give_up_ms: 0,
            }),
        };
        socket.step(Input::Connected { key: None });
        loop {
            match socket.poll().await? {
                Some(Output::Welcomed { .. }) => return Ok(socket),
                Some(other) => bail!("{other:?} before welcome"),
                None => drop(socket.receive().await?),
            }
        }
    }

    /// One chat.
    pub(super) async fn chat(&mut self, load: &Load, outcome: &mut Outcome) -> Result<()> {
        let began = now_ns();
        let mut at = began;
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        let request = ChatRequest {
            messages: vec![ChatMessage {
                role: Role::User,
                content: load.directive().prompt(),
                ..ChatMessage::default()
            }],
            ..ChatRequest::default()
        };
        self.step(Input::Submit {
            job: JobId::from_random(bytes),
            model: load.model.clone(),
            request: Box::new(request.into()),
        });
        loop {
            match self.poll().await? {
                Some(Output::Event { event, .. }) => match event {
                    Event::Delta { text, .. } => {
                        for_stamps(&text, |made, index| outcome.token(made, index, at, began));
                    }
                    Event::Completed { .. } => {
                        outcome.done = true;
                        // The acknowledgement of the end.
                        drop(self.poll().await?);
                        return Ok(());
                    }
                    Event::Failed(failure) => bail!("{failure:?}"),
                    Event::Interrupted => bail!("interrupted"),
                    Event::Reconnecting => bail!("the connection was lost"),
                    Event::Queued { .. } | Event::Assigned { .. } | Event::Started { .. } => {}
                },
                Some(other) => bail!("{other:?} instead of an event"),
                None => {
                    at = self.receive().await?;
                    outcome.reads += 1;
                }
            }
        }
    }

    fn step(&mut self, input: Input<'_>) {
        self.session.handle_input(now_ns() / 1_000_000, input);
    }

    async fn poll(&mut self) -> Result<Option<Output>> {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(text) => self.stream.send(Message::text(text)).await?,
                news @ (Output::Connect
                | Output::Welcomed { .. }
                | Output::Refused(_)
                | Output::Event { .. }) => {
                    return Ok(Some(news));
                }
            }
        }
        Ok(None)
    }

    /// Takes one message and says when it was read.
    async fn receive(&mut self) -> Result<u64> {
        let message = self.stream.next().await.context("the socket ended")??;
        let at = now_ns();
        match message {
            Message::Text(text) => self.step(Input::Text(&text)),
            Message::Binary(bytes) => self.step(Input::Binary(&bytes)),
            Message::Close(frame) => bail!("the relay closed the socket: {frame:?}"),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
        Ok(at)
    }
}
