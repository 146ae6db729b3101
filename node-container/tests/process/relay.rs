//! A relay of straw: one WebSocket at a time, and nothing decided.

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use protocol::limits::NODE_FRAME_BYTES_MAX;
use protocol::{
    AnswerHash, CloseCode, DeltaKind, Failure, FinishReason, NodeToRelay, PING, PONG, RelayToNode,
    SUBPROTOCOL, TokenFrame, Usage, decode, encode,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

#[path = "../engine/model.rs"]
mod model;
pub(crate) use model::{found, model_file};

pub(crate) struct Relay {
    listener: TcpListener,
}

/// A whole answer, checked on the way.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) tokens: u32,
    pub(crate) frames: u32,
    pub(crate) finish_reason: FinishReason,
    pub(crate) usage: Usage,
    /// `draining` came before the end.
    pub(crate) drained: bool,
}

pub(crate) struct Connection {
    socket: WebSocketStream<TcpStream>,
    /// What was heard when it came.
    first: Option<Message>,
    record: Record,
    /// Each frame is acknowledged while a job is followed.
    pub(crate) acknowledges: bool,
}

/// What a relay has read of one answer.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) offset: u32,
    text: String,
    pub(crate) tokens: u32,
    frames: u32,
}

impl Record {
    pub(crate) fn hash(&self) -> AnswerHash {
        AnswerHash::of(self.text.as_bytes())
    }

    /// Reads a frame's entries for `alias`; `true` where there were any.
    fn take_frame(&mut self, frame: &[u8], alias: u32) -> bool {
        let frame = TokenFrame::decode(frame).expect("a token frame");
        let mut any = false;
        for entry in frame.entries().filter(|entry| entry.alias == alias) {
            assert_eq!(entry.kind, DeltaKind::Text);
            assert_eq!(entry.offset, self.offset, "no gap, no overlap");
            self.offset = entry.end_offset().expect("in range");
            self.text
                .push_str(std::str::from_utf8(entry.bytes).expect("whole characters"));
            self.tokens += entry.token_count();
            any = true;
        }
        self.frames += u32::from(any);
        any
    }
}

enum Said {
    Message(NodeToRelay),
    Frame(Vec<u8>),
}

impl Relay {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self { listener }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.listener.local_addr().expect("bound"))
    }

    /// The next connection on which the rig says something. One that asks only whether its key is taken is answered.
    pub(crate) async fn accept(&self, key: Option<&str>) -> Connection {
        loop {
            let mut socket = self.upgrade(key).await;
            let first = socket.next().await.expect("a word").expect("readable");
            if !first.is_close() {
                return Connection {
                    socket,
                    first: Some(first),
                    record: Record::default(),
                    acknowledges: false,
                };
            }
        }
    }

    /// Lets a rig ask whether its key is taken, and no more.
    pub(crate) async fn admit(&self) {
        let mut socket = self.upgrade(None).await;
        let first = socket.next().await.expect("a word").expect("readable");
        assert!(first.is_close(), "{first:?}");
    }

    async fn upgrade(&self, key: Option<&str>) -> WebSocketStream<TcpStream> {
        let (stream, _) = self.listener.accept().await.expect("the rig comes");
        let expected = key.map(|key| format!("Bearer {key}"));
        #[expect(
            clippy::result_large_err,
            reason = "the shape of tungstenite's callback"
        )]
        let check =
            |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                assert_eq!(request.uri().path(), "/node");
                let header = |name| {
                    request
                        .headers()
                        .get(name)
                        .map(|value| value.to_str().expect("ASCII").to_owned())
                };
                assert!(expected.is_none() || header("authorization") == expected);
                assert_eq!(
                    header("sec-websocket-protocol").as_deref(),
                    Some(SUBPROTOCOL)
                );
                response.headers_mut().insert(
                    "sec-websocket-protocol",
                    SUBPROTOCOL.parse().expect("valid"),
                );
                Ok(response)
            };
        accept_hdr_async(stream, check).await.expect("upgraded")
    }

    pub(crate) async fn refuse(&self) {
        let (stream, _) = self.listener.accept().await.expect("the rig comes");
        #[expect(
            clippy::result_large_err,
            reason = "the shape of tungstenite's callback"
        )]
        let refuse = |_: &Request, _: Response| -> Result<Response, ErrorResponse> {
            let mut response = ErrorResponse::new(None);
            *response.status_mut() = tokio_tungstenite::tungstenite::http::StatusCode::UNAUTHORIZED;
            Err(response)
        };
        assert!(accept_hdr_async(stream, refuse).await.is_err());
    }

    /// Whether somebody wants to connect right now.
    pub(crate) async fn was_asked(&self) -> bool {
        tokio::task::yield_now().await;
        self.listener.accept().now_or_never().is_some()
    }
}

impl Connection {
    pub(crate) async fn send(&mut self, message: &RelayToNode) {
        self.socket
            .send(Message::text(encode(message)))
            .await
            .expect("sent");
    }

    pub(crate) async fn welcome(&mut self) {
        self.send(&RelayToNode::Welcome {
            node: "node-1".to_owned(),
            heartbeat_ms: 10_000,
        })
        .await;
    }

    async fn said(&mut self) -> Said {
        loop {
            let message = match self.first.take() {
                Some(first) => first,
                None => self
                    .socket
                    .next()
                    .await
                    .expect("connected")
                    .expect("readable"),
            };
            match message {
                Message::Text(text) if text.as_str() == PING => {
                    self.socket.send(Message::text(PONG)).await.expect("sent");
                }
                Message::Text(text) => {
                    let message = decode(text.as_str(), NODE_FRAME_BYTES_MAX).expect("a message");
                    return Said::Message(message);
                }
                Message::Binary(bytes) => return Said::Frame(bytes.to_vec()),
                Message::Ping(_) | Message::Pong(_) => {}
                end @ (Message::Close(_) | Message::Frame(_)) => panic!("unexpected {end:?}"),
            }
        }
    }

    pub(crate) async fn message(&mut self) -> NodeToRelay {
        match self.said().await {
            Said::Message(message) => message,
            Said::Frame(_) => panic!("expected a message"),
        }
    }

    /// The next message, whatever tokens come before it.
    pub(crate) async fn message_after_tokens(&mut self) -> NodeToRelay {
        loop {
            if let Said::Message(message) = self.said().await {
                return message;
            }
        }
    }

    /// The connection is cut off; what was read of the answer stays.
    pub(crate) fn cut(mut self) -> Record {
        self.take_record()
    }

    /// Another job is followed from now on.
    pub(crate) fn take_record(&mut self) -> Record {
        std::mem::take(&mut self.record)
    }

    /// Goes on with what an earlier connection read.
    pub(crate) fn go_on(&mut self, record: Record) {
        self.record = record;
    }

    pub(crate) async fn acknowledge(&mut self, alias: u32, whole: bool) {
        let offset = self.record.offset;
        self.send(&RelayToNode::Acknowledge {
            alias,
            offset,
            whole,
        })
        .await;
    }

    /// Waits until a job answers. What comes is kept for [`Self::follow`].
    pub(crate) async fn first_token(&mut self, alias: u32) {
        self.record = Record::default();
        self.next_frame(alias).await;
    }

    /// Waits for more of a job's answer.
    pub(crate) async fn next_frame(&mut self, alias: u32) {
        loop {
            match self.said().await {
                Said::Frame(frame) if self.record.take_frame(&frame, alias) => return,
                Said::Message(NodeToRelay::Failed { failure, .. }) => panic!("{failure}"),
                Said::Frame(_) | Said::Message(_) => {}
            }
        }
    }

    pub(crate) async fn follow(&mut self, alias: u32) -> Answer {
        self.follow_beside(alias, 0, &mut Record::default()).await
    }

    /// Follows one job to its end; what comes of another on the way is put down too.
    pub(crate) async fn follow_beside(
        &mut self,
        alias: u32,
        other: u32,
        beside: &mut Record,
    ) -> Answer {
        let mut drained = false;
        loop {
            match self.said().await {
                Said::Frame(frame) => {
                    beside.take_frame(&frame, other);
                    if self.record.take_frame(&frame, alias) && self.acknowledges {
                        self.acknowledge(alias, false).await;
                    }
                }
                Said::Message(NodeToRelay::Draining) => drained = true,
                Said::Message(NodeToRelay::Completed {
                    alias: of,
                    offset,
                    finish_reason,
                    usage,
                }) if of == alias => {
                    assert_eq!(offset, self.record.offset, "all bytes came");
                    assert_eq!(
                        usage.completion_tokens, self.record.tokens,
                        "all tokens came"
                    );
                    self.acknowledge(alias, true).await;
                    let record = std::mem::take(&mut self.record);
                    return Answer {
                        text: record.text,
                        tokens: record.tokens,
                        frames: record.frames,
                        finish_reason,
                        usage,
                        drained,
                    };
                }
                Said::Message(NodeToRelay::Failed { failure, .. }) => panic!("{failure}"),
                Said::Message(_) => {}
            }
        }
    }

    pub(crate) async fn failed(&mut self, alias: u32) -> Failure {
        loop {
            if let Said::Message(NodeToRelay::Failed { alias: of, failure }) = self.said().await
                && of == alias
            {
                return failure;
            }
        }
    }

    /// What is said up to the goodbye, which must come.
    pub(crate) async fn last_words(&mut self) -> Vec<NodeToRelay> {
        let mut said = Vec::new();
        loop {
            match self.socket.next().await.expect("a goodbye") {
                Ok(Message::Text(text)) if text.as_str() == PING => {}
                Ok(Message::Text(text)) => {
                    said.push(decode(text.as_str(), NODE_FRAME_BYTES_MAX).expect("a message"));
                }
                Ok(Message::Close(Some(frame))) => {
                    assert_eq!(u16::from(frame.code), CloseCode::GoingAway.number());
                    return said;
                }
                Ok(other) => panic!("unexpected {other:?}"),
                Err(error) => panic!("cut off: {error}"),
            }
        }
    }

    pub(crate) async fn cancelled(&mut self, alias: u32) -> Usage {
        loop {
            if let Said::Message(NodeToRelay::Cancelled { alias: of, usage }) = self.said().await
                && of == alias
            {
                return usage;
            }
        }
    }

    pub(crate) async fn draining(&mut self) {
        while !matches!(self.said().await, Said::Message(NodeToRelay::Draining)) {}
    }
}
