//! One WebSocket to the relay: dialling, reading, writing. Knows no message.

use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use protocol::limits::RELAY_FRAME_BYTES_MAX;
use protocol::{CloseCode, SUBPROTOCOL};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::http::{StatusCode, Uri};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as FrameCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::config::{NodeKey, RelayUrl};

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A relay that has not answered by then is treated as absent.
const DIAL_TIME_MAX: Duration = Duration::from_secs(15);

/// What is left to send before the end gets this long.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// What came from the relay.
#[derive(Debug)]
pub(crate) enum Heard {
    Text(String),
    Binary(Vec<u8>),
    /// Everything that was given is with the system; there is room for more.
    Written,
    /// Nothing more comes.
    Closed {
        code: Option<u16>,
        why: String,
    },
}

/// An open connection. Dropping it cuts the connection off.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: SplitStream<Stream>,
    /// A task of its own writes, so that a relay that does not read cannot hold up anything else here.
    queue: UnboundedSender<Message>,
    /// One for each message written.
    written: UnboundedReceiver<()>,
    /// Messages given and not yet written.
    waiting: usize,
    writer: JoinHandle<()>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct DialError {
    pub(crate) code: Option<u16>,
    pub(crate) why: String,
}

/// Opens a connection.
pub(crate) async fn dial(relay: RelayUrl, key: Option<NodeKey>) -> Result<Socket, DialError> {
    let failed = |why: String| DialError { code: None, why };
    let uri: Uri = relay
        .as_str()
        .parse()
        .map_err(|_| failed("the relay's address is not valid".to_owned()))?;
    let mut request = ClientRequestBuilder::new(uri).with_sub_protocol(SUBPROTOCOL);
    if let Some(key) = &key {
        request = request.with_header("Authorization", format!("Bearer {}", key.reveal()));
    }
    // The largest message has its own check in the session; this one only bounds memory.
    let limits = WebSocketConfig::default()
        .max_message_size(Some(2 * RELAY_FRAME_BYTES_MAX))
        .max_frame_size(Some(2 * RELAY_FRAME_BYTES_MAX));
    let dialled = timeout(
        DIAL_TIME_MAX,
        connect_async_with_config(request, Some(limits), true),
    )
    .await
    .map_err(|_| failed("it did not answer in time".to_owned()))?;
    match dialled {
        Ok((stream, _)) => {
            let (sink, stream) = stream.split();
            let (queue, messages) = unbounded_channel();
            let (wrote, written) = unbounded_channel();
            let writer = tokio::spawn(write(sink, messages, wrote));
            Ok(Socket {
                stream,
                queue,
                written,
                waiting: 0,
                writer,
            })
        }
        Err(Error::Http(response)) => {
            let status = response.status();
            let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status);
            Err(DialError {
                code: refused.then_some(CloseCode::Unauthorized.number()),
                why: format!("it answered {status}"),
            })
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

async fn write(
    mut sink: SplitSink<Stream, Message>,
    mut messages: UnboundedReceiver<Message>,
    wrote: UnboundedSender<()>,
) {
    while let Some(message) = messages.recv().await {
        // The reader finds out about the same end, and tells it.
        if sink.send(message).await.is_err() {
            return;
        }
        if wrote.send(()).is_err() {
            // The socket was dropped, and this task is about to be.
            return;
        }
    }
}

impl Socket {
    /// What comes next; never fails, but ends. Loses nothing where it is given up half-way.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            tokio::select! {
                Some(()) = self.written.recv() => {
                    self.waiting = self.waiting.saturating_sub(1);
                    if self.waiting == 0 {
                        return Heard::Written;
                    }
                }
                message = self.stream.next() => {
                    if let Some(heard) = heard(message) {
                        return heard;
                    }
                }
            }
        }
    }

    /// Sends a message, some time.
    pub(crate) fn send(&mut self, message: Message) {
        self.waiting += 1;
        if self.queue.send(message).is_err() {
            tracing::debug!("the connection is gone; a message was dropped");
        }
    }

    /// Whether something that was given is not with the system yet.
    pub(crate) const fn is_busy(&self) -> bool {
        self.waiting > 0
    }

    /// Says goodbye and waits a little until everything is sent.
    pub(crate) async fn close(mut self, code: u16) {
        self.send(Message::Close(Some(CloseFrame {
            code: FrameCode::from(code),
            reason: "".into(),
        })));
        let (closed, _) = unbounded_channel();
        // The writer ends when its queue does.
        drop(std::mem::replace(&mut self.queue, closed));
        let waited = timeout(CLOSE_TIME_MAX, &mut self.writer).await;
        if waited.is_err() {
            tracing::warn!("the relay did not take the last messages in time");
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

/// What a message means; `None` for those that the library deals with.
fn heard(message: Option<Result<Message, Error>>) -> Option<Heard> {
    Some(match message {
        Some(Ok(Message::Text(text))) => Heard::Text(text.as_str().to_owned()),
        Some(Ok(Message::Binary(bytes))) => Heard::Binary(bytes.to_vec()),
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return None,
        Some(Ok(Message::Close(frame))) => Heard::Closed {
            code: frame.as_ref().map(|frame| frame.code.into()),
            why: frame.map_or_else(
                || "closed".to_owned(),
                |frame| format!("closed ({}) {}", u16::from(frame.code), frame.reason),
            ),
        },
        Some(Err(error)) => Heard::Closed {
            code: None,
            why: error.to_string(),
        },
        None => Heard::Closed {
            code: None,
            why: "the connection ended".to_owned(),
        },
    })
}
