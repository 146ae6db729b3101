//! A user with an `OpenAI` client.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::Load;
use crate::report::Outcome;
use crate::stamp::{for_stamps, now_ns};

/// One chat on a connection of its own.
pub(super) async fn chat(load: &Load, outcome: &mut Outcome) -> Result<()> {
    let began = now_ns();
    let stream = TcpStream::connect(&load.address).await.context("connect")?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let body = json!({
        "model": load.model,
        "stream": true,
        "messages": [{"role": "user", "content": load.directive().prompt()}],
    });
    let request = Request::post("/v1/chat/completions")
        .header("host", &load.address)
        .header("content-type", "application/json")
        .header("accept", "text/event-stream")
        .header("authorization", format!("Bearer {}", load.key))
        .body(Full::new(Bytes::from(body.to_string())))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let mut body = response.into_body();
    if !status.is_success() {
        let bytes = body.collect().await?.to_bytes();
        bail!("{status}: {}", String::from_utf8_lossy(&bytes));
    }
    let mut rest: Vec<u8> = Vec::with_capacity(8192);
    while let Some(frame) = body.frame().await {
        let frame = frame.context("body")?;
        let at = now_ns();
        let Some(data) = frame.data_ref() else {
            continue;
        };
        outcome.reads += 1;
        rest.extend_from_slice(data);
        let lines = rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |last| last + 1);
        for line in rest.drain(..lines).as_slice().split(|byte| *byte == b'\n') {
            read_line(line, at, began, outcome);
        }
    }
    driver.abort();
    Ok(())
}

fn read_line(line: &[u8], at: u64, began: u64, outcome: &mut Outcome) {
    let Some(data) = line.strip_prefix(b"data:") else {
        return;
    };
    let data = data.trim_ascii();
    if data == b"[DONE]" {
        outcome.done = true;
        return;
    }
    let Ok(event) = serde_json::from_slice::<Value>(data) else {
        outcome.disorder += 1;
        return;
    };
    if let Some(error) = event.get("error") {
        outcome.error = Some(error.to_string());
    }
    if let Some(text) = event
        .pointer("/choices/0/delta/content")
        .and_then(Value::as_str)
    {
        for_stamps(text, |made, index| outcome.token(made, index, at, began));
    }
}
