//! A listener on the line between a rig and the relay: it passes everything on untouched and remembers what passed.
//! So a test sees what the node really did, frame by frame, and not what somebody says about it.

use anyhow::{Context, Result};
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use protocol::{Alias, NodeToRelay, RelayToNode, SUBPROTOCOL, TokenFrame};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::raw::connect;
use crate::{Network, within};

/// Something that passed.
#[derive(Debug, Clone, PartialEq)]
pub enum Passed {
    /// The relay said this to the rig.
    ToNode(RelayToNode),
    /// The rig said this.
    FromNode(NodeToRelay),
    /// The rig sent a token frame with entries for these attempts, each with so many tokens.
    Tokens(Vec<(Alias, u32)>),
}

/// The listener. Dropping it cuts the line.
#[derive(Debug)]
pub struct Tap {
    /// Where a rig reaches the relay through it.
    pub url: String,
    passed: watch::Receiver<Vec<Passed>>,
    line: JoinHandle<Result<()>>,
}

impl Tap {
    /// Waits for one rig on a free port.
    pub async fn start(network: &Network) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}", listener.local_addr()?);
        let (record, passed) = watch::channel(Vec::new());
        let relay = network.socket_url();
        let line = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await?;
                let ended = pass_on(stream, &relay, &record).await;
                // A rig first asks whether its key is taken, and says nothing.
                if !record.borrow().is_empty() {
                    return ended;
                }
            }
        });
        Ok(Self { url, passed, line })
    }

    /// Everything that passed until now.
    pub fn passed(&self) -> Vec<Passed> {
        self.passed.borrow().clone()
    }

    /// Waits until what passed from the `from`th thing on contains what is wanted; says where it stands.
    pub async fn position(
        &self,
        what: &str,
        from: usize,
        wanted: impl Fn(&Passed) -> bool,
    ) -> Result<usize> {
        let mut passed = self.passed.clone();
        within(what, async {
            let find = |all: &Vec<Passed>| {
                let later = all.iter().enumerate().skip(from);
                later
                    .filter(|(_, passed)| wanted(passed))
                    .map(|(position, _)| position)
                    .next()
            };
            let all = passed.wait_for(|all| find(all).is_some()).await?;
            find(&all).context("it passed a moment ago")
        })
        .await
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.line.abort();
    }
}

async fn pass_on(
    stream: TcpStream,
    relay: &str,
    record: &watch::Sender<Vec<Passed>>,
) -> Result<()> {
    let mut path = String::new();
    let mut key = String::new();
    #[expect(
        clippy::result_large_err,
        reason = "the error type is tungstenite's own"
    )]
    let remember = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        request.uri().path().clone_into(&mut path);
        if let Some(Ok(value)) = request
            .headers()
            .get("Authorization")
            .map(HeaderValue::to_str)
        {
            value.clone_into(&mut key);
        }
        let protocol = HeaderValue::from_static(SUBPROTOCOL);
        response
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol);
        Ok(response)
    };
    let node = accept_hdr_async(stream, remember).await?;
    let headers = [("Authorization", key.as_str())];
    let headers = if key.is_empty() { &[][..] } else { &headers };
    let relay = connect(&format!("{relay}{path}"), headers).await?;
    let (mut to_node, mut from_node) = node.split();
    let (mut to_relay, mut from_relay) = relay.split();
    loop {
        tokio::select! {
            message = next(&mut from_node) => {
                let message = message?;
                record.send_modify(|all| all.extend(from_node_passed(&message)));
                to_relay.send(message).await?;
            }
            message = next(&mut from_relay) => {
                let message = message?;
                record.send_modify(|all| all.extend(to_node_passed(&message)));
                to_node.send(message).await?;
            }
        }
    }
}

async fn next(
    from: &mut (impl Stream<Item = Result<Message, tungstenite::Error>> + Unpin),
) -> Result<Message> {
    Ok(from.next().await.context("the line ended")??)
}

fn from_node_passed(message: &Message) -> Option<Passed> {
    match message {
        Message::Text(text) => Some(Passed::FromNode(serde_json::from_str(text).ok()?)),
        Message::Binary(bytes) => {
            let frame = TokenFrame::decode(bytes).ok()?;
            let entries = frame
                .entries()
                .map(|entry| (entry.alias, entry.token_count()));
            Some(Passed::Tokens(entries.collect()))
        }
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => None,
    }
}

fn to_node_passed(message: &Message) -> Option<Passed> {
    match message {
        Message::Text(text) => Some(Passed::ToNode(serde_json::from_str(text).ok()?)),
        Message::Binary(_)
        | Message::Ping(_)
        | Message::Pong(_)
        | Message::Close(_)
        | Message::Frame(_) => None,
    }
}
