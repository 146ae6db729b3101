//! Sockets with no brain behind them: they say whatever a test wants, right or wrong.

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use protocol::{
    Alias, Answer, Capabilities, ClientToRelay, DeltaKind, FinishReason, JobId, ModelOffer,
    NodeClass, NodeToRelay, RelayToClient, RelayToNode, SUBPROTOCOL, TokenFrameWriter, Usage,
    encode,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::{Network, OTHER_MODEL, within};

/// Opens a WebSocket with our subprotocol and these headers.
pub(crate) async fn connect(
    url: &str,
    headers: &[(&str, &str)],
) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, tungstenite::Error> {
    let mut request = url.into_client_request()?;
    let protocol = HeaderValue::from_static(SUBPROTOCOL);
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", protocol);
    for (name, value) in headers {
        let name: HeaderName = name
            .parse()
            .map_err(|_| tungstenite::Error::AttackAttempt)?;
        let value = HeaderValue::from_str(value).map_err(|_| tungstenite::Error::AttackAttempt)?;
        request.headers_mut().insert(name, value);
    }
    // A handshake's future has 20 KB; in every future around it, it would overflow a test's stack.
    let (socket, _) = Box::pin(connect_async(request)).await?;
    Ok(socket)
}

/// What a raw socket received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A control frame.
    Text(String),
    /// A binary frame.
    Binary(Vec<u8>),
    /// The relay closed the socket: its code, 1006 where it just vanished.
    Closed(u16),
}

/// A WebSocket to the relay without manners.
#[derive(Debug)]
pub struct RawSocket {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl RawSocket {
    /// Opens `/client` or `/node` with these headers; `Err` holds the HTTP status of a refusal.
    pub async fn open(
        network: &Network,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Result<Self, u16>> {
        let url = format!("{}{path}", network.socket_url());
        within("a raw socket opens", async {
            match connect(&url, headers).await {
                Ok(socket) => Ok(Ok(Self { socket })),
                Err(tungstenite::Error::Http(response)) => Ok(Err(response.status().as_u16())),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// A client's socket that has been welcomed.
    pub async fn client(network: &Network) -> Result<Self> {
        let mut socket = Self::with_key(network, "/client", &network.ready.api_key).await?;
        socket
            .wait_for("welcome", |message: &RelayToClient| {
                matches!(message, RelayToClient::Welcome { .. }).then_some(())
            })
            .await?;
        Ok(socket)
    }

    /// A node's socket that has yet to say `hello`.
    pub async fn node(network: &Network) -> Result<Self> {
        Self::with_key(network, "/node", &network.ready.node_key).await
    }

    async fn with_key(network: &Network, path: &str, key: &str) -> Result<Self> {
        let key = format!("Bearer {key}");
        match Self::open(network, path, &[("Authorization", &key)]).await? {
            Ok(socket) => Ok(socket),
            Err(status) => bail!("{path} refused the right key with {status}"),
        }
    }

    /// Sends a control frame.
    pub async fn say<T: Serialize>(&mut self, message: &T) -> Result<()> {
        self.text(encode(message)).await
    }

    /// Sends any text. A socket that the relay has closed takes no more; its close code tells why.
    pub async fn text(&mut self, text: impl Into<String>) -> Result<()> {
        self.send(Message::text(text.into())).await
    }

    /// Sends any bytes.
    pub async fn binary(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.send(Message::binary(bytes)).await
    }

    async fn send(&mut self, message: Message) -> Result<()> {
        match self.socket.send(message).await {
            Ok(())
            | Err(
                tungstenite::Error::ConnectionClosed
                | tungstenite::Error::AlreadyClosed
                | tungstenite::Error::Protocol(_)
                | tungstenite::Error::Io(_),
            ) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What comes next.
    pub async fn next(&mut self) -> Result<Incoming> {
        within("a frame or a close", async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(Incoming::Text(text.to_string())),
                    Some(Ok(Message::Binary(bytes))) => {
                        return Ok(Incoming::Binary(bytes.to_vec()));
                    }
                    Some(Ok(Message::Close(frame))) => {
                        let code = frame.map_or(1005, |frame| u16::from(frame.code));
                        return Ok(Incoming::Closed(code));
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                    Some(Err(_)) | None => return Ok(Incoming::Closed(1006)),
                }
            }
        })
        .await
    }

    /// Reads control frames until one is as wanted; other frames are passed over.
    pub async fn wait_for<T: DeserializeOwned, R>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&T) -> Option<R>,
    ) -> Result<R> {
        loop {
            match self.next().await.with_context(|| what.to_owned())? {
                Incoming::Text(text) => {
                    if let Some(found) = wanted(&serde_json::from_str(&text)?) {
                        return Ok(found);
                    }
                }
                Incoming::Binary(_) => {}
                Incoming::Closed(code) => bail!("closed with {code} while waiting for: {what}"),
            }
        }
    }

    /// The close code; frames before it are passed over.
    pub async fn closed(&mut self) -> Result<u16> {
        loop {
            if let Incoming::Closed(code) = self.next().await? {
                return Ok(code);
            }
        }
    }
}

/// What a raw node offers.
pub fn offer(model: &str) -> ModelOffer {
    ModelOffer {
        model: model.to_owned(),
        runtime: "llama.cpp".to_owned(),
        context_tokens: 4096,
        capabilities: Capabilities {
            grammar: true,
            logprobs: true,
            penalties: true,
            logit_bias: true,
            seed: true,
            continuation: true,
            ..Capabilities::default()
        },
        measured: None,
    }
}

/// What the relay assigns.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Which job.
    pub job: JobId,
    /// Which attempt at it.
    pub attempt: u32,
    /// Its name in token frames.
    pub alias: Alias,
    /// What an announcement must show.
    pub ticket: String,
    /// What the client has already.
    pub answer: Option<Answer>,
}

/// A node without an engine: it says what a test tells it to. It serves a model of its own, so that it takes nobody
/// else's jobs.
#[derive(Debug)]
pub struct RawNode {
    /// Its connection.
    pub socket: RawSocket,
}

impl RawNode {
    /// Joins with one slot for [`OTHER_MODEL`].
    pub async fn join(network: &Network) -> Result<Self> {
        Self::join_with(network, OTHER_MODEL).await
    }

    /// Joins with one slot for a model.
    pub async fn join_with(network: &Network, model: &str) -> Result<Self> {
        Self::join_as(network, "raw", model, 0).await
    }

    /// Joins under a name, and is going to announce so many answers.
    pub async fn join_as(
        network: &Network,
        name: &str,
        model: &str,
        announces: u32,
    ) -> Result<Self> {
        let socket = RawSocket::node(network).await?;
        let mut hello = hello(name, vec![offer(model)]);
        if let NodeToRelay::Hello { announces: own, .. } = &mut hello {
            *own = announces;
        }
        Self::join_saying(socket, &hello).await
    }

    async fn join_saying(mut socket: RawSocket, hello: &NodeToRelay) -> Result<Self> {
        socket.say(hello).await?;
        socket
            .wait_for("welcome", |message: &RelayToNode| {
                matches!(message, RelayToNode::Welcome { .. }).then_some(())
            })
            .await?;
        Ok(Self { socket })
    }

    /// Joins with many slots.
    pub async fn join_wide(network: &Network, name: &str, model: &str, slots: u32) -> Result<Self> {
        let socket = RawSocket::node(network).await?;
        let mut hello = hello(name, vec![offer(model)]);
        if let NodeToRelay::Hello { slots: own, .. } = &mut hello {
            *own = slots;
        }
        Self::join_saying(socket, &hello).await
    }

    /// Waits for a job.
    pub async fn assigned(&mut self) -> Result<(JobId, Alias)> {
        let assignment = self.assignment().await?;
        Ok((assignment.job, assignment.alias))
    }

    /// Waits for a job and says all about it.
    pub async fn assignment(&mut self) -> Result<Assignment> {
        self.socket
            .wait_for("assign", |message: &RelayToNode| {
                if let RelayToNode::Assign {
                    job,
                    attempt,
                    alias,
                    ticket,
                    answer,
                    ..
                } = message
                {
                    Some(Assignment {
                        job: *job,
                        attempt: *attempt,
                        alias: *alias,
                        ticket: ticket.clone(),
                        answer: answer.clone(),
                    })
                } else {
                    None
                }
            })
            .await
    }

    /// Says that the prompt fits.
    pub async fn accept(&mut self, alias: Alias) -> Result<()> {
        self.socket
            .say(&NodeToRelay::Accepted {
                alias,
                prompt_tokens: 10,
                context_tokens: 4096,
            })
            .await
    }

    /// Says that the answer is whole.
    pub async fn complete(&mut self, alias: Alias, offset: u32, tokens: u32) -> Result<()> {
        self.socket
            .say(&NodeToRelay::Completed {
                alias,
                offset,
                finish_reason: FinishReason::Stop,
                usage: Usage {
                    prompt_tokens: 10,
                    completion_tokens: tokens,
                    cached_tokens: 0,
                },
            })
            .await
    }

    /// Sends a token frame with one entry.
    pub async fn tokens(&mut self, alias: Alias, offset: u32, text: &str) -> Result<()> {
        let mut writer = TokenFrameWriter::new();
        writer.push(alias, offset, DeltaKind::Text, &[1], text.as_bytes());
        self.socket.binary(writer.finish()).await
    }
}

/// A node's first frame.
pub(crate) fn hello(name: &str, models: Vec<ModelOffer>) -> NodeToRelay {
    NodeToRelay::Hello {
        key: None,
        name: name.to_owned(),
        class: NodeClass::Rig,
        software: "raw".to_owned(),
        slots: 1,
        models,
        announces: 0,
        machine: None,
    }
}

impl RawSocket {
    /// Submits a request as it stands, under a job id of the test's choice.
    pub async fn submit(
        &mut self,
        job: JobId,
        model: &str,
        request: protocol::ChatRequest,
    ) -> Result<()> {
        self.say(&ClientToRelay::Submit {
            job,
            model: model.to_owned(),
            request: request.into(),
        })
        .await
    }
}
