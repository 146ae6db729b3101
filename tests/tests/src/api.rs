//! `/v1` over HTTP, as close to the wire as a test needs it. The official clients have suites of their own.

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;

use crate::within;

/// The API of one relay.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    base: String,
    key: Option<String>,
}

impl Api {
    /// With a key or without.
    pub fn new(base: &str, key: Option<&str>) -> Result<Self> {
        Ok(Self {
            // A connection of its own for each request: aborting one must close it.
            client: Client::builder().pool_max_idle_per_host(0).build()?,
            base: base.to_owned(),
            key: key.map(str::to_owned),
        })
    }

    /// Any request.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// A chat request, not sent yet.
    pub fn chat(&self, body: &Value) -> RequestBuilder {
        self.request(Method::POST, "/v1/chat/completions")
            .json(body)
    }

    /// A whole answer, which must be a success.
    pub async fn answer(&self, body: &Value) -> Result<Value> {
        let (status, answer) = self.outcome(self.chat(body)).await?;
        ensure!(status == 200, "status {status}: {answer}");
        Ok(answer)
    }

    /// Status and JSON of any request.
    pub async fn outcome(&self, request: RequestBuilder) -> Result<(u16, Value)> {
        within("an HTTP answer", async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            let text = response.text().await?;
            let body = serde_json::from_str(&text)
                .with_context(|| format!("status {status}, not JSON: {text}"))?;
            Ok((status, body))
        })
        .await
    }

    /// A streamed answer, which must begin well.
    pub async fn stream(&self, body: &Value) -> Result<EventStream> {
        let response = within("the headers of a stream", async {
            Ok(self.chat(body).send().await?)
        })
        .await?;
        let status = response.status();
        ensure!(status == 200, "status {status}: {}", response.text().await?);
        Ok(EventStream::new(response))
    }

    /// One entry of `/v1/models`.
    pub async fn model(&self, id: &str) -> Result<Value> {
        let path = format!("/v1/models/{id}");
        let (status, model) = self.outcome(self.request(Method::GET, &path)).await?;
        ensure!(status == 200, "status {status}: {model}");
        Ok(model)
    }
}

/// The events of a streamed answer. Dropping it closes the connection.
pub struct EventStream {
    bytes: BoxStream<'static, reqwest::Result<Vec<u8>>>,
    pending: Vec<u8>,
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").finish_non_exhaustive()
    }
}

impl EventStream {
    fn new(response: Response) -> Self {
        Self {
            bytes: response
                .bytes_stream()
                .map(|chunk| chunk.map(|bytes| bytes.to_vec()))
                .boxed(),
            pending: Vec::new(),
        }
    }

    /// The next event; `None` after `[DONE]`.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        within("an event of a stream", async {
            loop {
                let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') else {
                    let chunk = self.bytes.next().await.context("no [DONE]")??;
                    self.pending.extend_from_slice(&chunk);
                    continue;
                };
                let rest = self.pending.split_off(end + 1);
                let line = std::mem::replace(&mut self.pending, rest);
                let line = std::str::from_utf8(&line)?.trim_end();
                match line.strip_prefix("data: ") {
                    Some("[DONE]") => return Ok(None),
                    Some(data) => return Ok(Some(serde_json::from_str(data)?)),
                    // A comment, which keeps the connection alive, or the empty line after an event.
                    None if line.is_empty() || line.starts_with(':') => {}
                    None => bail!("not an event: {line}"),
                }
            }
        })
        .await
    }

    /// The next piece of text; `None` when the stream is over.
    pub async fn text(&mut self) -> Result<Option<String>> {
        while let Some(event) = self.next().await? {
            ensure!(event.get("error").is_none(), "{event}");
            let piece = event.pointer("/choices/0/delta/content");
            if let Some(piece) = piece.and_then(Value::as_str)
                && !piece.is_empty()
            {
                return Ok(Some(piece.to_owned()));
            }
        }
        Ok(None)
    }
}
