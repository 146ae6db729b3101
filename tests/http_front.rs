//! HTTP clients of a relay whose pool dies, and one that does not read.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one thing among others"
)]

use anyhow::{Context as _, Result, bail, ensure};
use protocol::RelayToNode;
use serde_json::{Value, json};
use tests::{EventStream, Incoming, MODEL, Network, OTHER_MODEL, RawNode, Rig, until};

/// Long enough to be broken off in the middle.
const TOKENS: u64 = 200;

/// Bytes that the relay lets a client leave unacknowledged (`window_bytes` of every `assign`).
const WINDOW_BYTES: u32 = 64 << 10;

/// What the kernel's buffers between the Worker and a client on the same machine may hold, generously.
const BUFFERED_BYTES_MAX: u32 = 14 << 20;

/// The same answer every time, of exactly [`TOKENS`] tokens.
fn request(stream: bool) -> Value {
    json!({
        "model": MODEL,
        "stream": stream,
        "temperature": 0,
        "max_tokens": TOKENS,
        "logit_bias": { "0": -100, "2": -100 },
        "messages": [{ "role": "user", "content": "Tell a story about a lighthouse." }],
    })
}

/// What a stream brings until its end.
#[derive(Default)]
struct Rest {
    text: String,
    finish_reason: Option<String>,
    error: Option<Value>,
}

async fn rest(stream: &mut EventStream) -> Result<Rest> {
    let mut rest = Rest::default();
    while let Some(event) = stream.next().await? {
        if let Some(error) = event.get("error") {
            // Nothing comes after it, not even `[DONE]`.
            rest.error = Some(error.clone());
            break;
        }
        let choice = |path: &str| event.pointer(&format!("/choices/0/{path}"));
        if let Some(text) = choice("delta/content").and_then(Value::as_str) {
            rest.text.push_str(text);
        }
        if let Some(reason) = choice("finish_reason").and_then(Value::as_str) {
            rest.finish_reason = Some(reason.to_owned());
        }
    }
    Ok(rest)
}

#[tokio::test]
async fn an_http_answer_outlives_its_pool_with_every_byte_once() -> Result<()> {
    let network = Network::with_faults().await?;
    let rig = Rig::start(&network, "rig", 1)?;
    network.free_slots(1).await?;
    let api = network.api()?;
    let undisturbed = api.answer(&request(false)).await?;
    let text = |answer: &Value| {
        let text = answer.pointer("/choices/0/message/content");
        text.and_then(Value::as_str).map(str::to_owned)
    };

    let mut stream = api.stream(&request(true)).await?;
    let mut streamed = String::new();
    for _ in 0..3 {
        streamed.push_str(&stream.text().await?.context("the stream ended early")?);
        network.abort_pool().await?;
    }
    let rest = rest(&mut stream).await?;
    ensure!(rest.error.is_none(), "{:?}", rest.error);
    ensure!(rest.finish_reason.as_deref() == Some("length"));
    streamed.push_str(&rest.text);
    ensure!(
        Some(&streamed) == text(&undisturbed).as_ref(),
        "not what an undisturbed answer says: {streamed}"
    );

    let body = request(false);
    let whole = tokio::spawn({
        let api = api.clone();
        async move { api.answer(&body).await }
    });
    until("the rig is at work", || async {
        Ok(rig.is_busy().then_some(()))
    })
    .await?;
    network.abort_pool().await?;
    let whole = whole.await??;
    ensure!(text(&whole) == text(&undisturbed), "{whole}");
    ensure!(whole.pointer("/usage/completion_tokens") == Some(&json!(TOKENS)));
    Ok(())
}

#[tokio::test]
async fn a_reader_that_is_held_up_stops_its_node_within_a_window() -> Result<()> {
    let network = Network::relay_only().await?;
    let mut node = RawNode::join(&network).await?;
    let api = network.api()?;
    let body = json!({
        "model": OTHER_MODEL,
        "stream": true,
        "messages": [{ "role": "user", "content": "Talk." }],
    });
    let opening = tokio::spawn(async move { api.stream(&body).await });
    let (_, alias) = node.assigned().await?;
    node.accept(alias).await?;
    let mut stream = opening.await??;

    let piece = "0123456789abcdef".repeat(64);
    let piece_bytes = u32::try_from(piece.len())?;
    let (mut sent, mut acknowledged) = (0, 0);
    loop {
        if sent - acknowledged < WINDOW_BYTES {
            node.tokens(alias, sent, &piece).await?;
            sent += piece_bytes;
            // The kernel takes some of it for the reader, whatever the relay does.
            ensure!(sent < BUFFERED_BYTES_MAX, "nothing stops the node");
            continue;
        }
        match node.socket.next().await? {
            Incoming::Text(text) => match serde_json::from_str(&text)? {
                RelayToNode::Acknowledge { offset, .. } => acknowledged = offset,
                RelayToNode::Cancel { .. } => break,
                _ => {}
            },
            Incoming::Binary(_) => {}
            Incoming::Closed(code) => bail!("closed with {code}"),
        }
    }

    // A reader that wakes up too late gets what was kept for it, in order, and the truth about the end.
    let rest = rest(&mut stream).await?;
    ensure!(rest.finish_reason.is_none(), "{:?}", rest.finish_reason);
    let error = rest.error.context("no error")?;
    ensure!(error.get("code") == Some(&json!("slow_reader")), "{error}");
    let expected = piece.repeat(usize::try_from(sent / piece_bytes)?);
    ensure!(rest.text.len() >= usize::try_from(acknowledged)?);
    ensure!(
        expected.starts_with(&rest.text),
        "other bytes than were sent"
    );
    Ok(())
}
