//! Who asks: the harness's WebSocket client, or the official `openai` package in a Python process of its own.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use client_session::Event;
use protocol::chat::ResponseFormat;
use protocol::{ChatRequest, FinishReason, Usage};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::scene::Scene;
use crate::{Client, MODEL, Tools, within};

/// What a user sees, and when.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Text(String),
    Ended(FinishReason, Usage),
    /// No end, but an error.
    Broke(String),
}

/// One user with one question at a time.
pub(super) enum User {
    Socket(Box<Client>),
    Http(Box<Python>),
}

/// A process of `python/openai_user.py`.
#[derive(Debug)]
pub(super) struct Python {
    _process: Child,
    orders: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
    id: Option<String>,
}

impl User {
    /// A WebSocket user, who comes by the line that can be cut.
    pub(super) async fn socket(scene: &Scene) -> Result<Self> {
        let client = Client::connect_at(&scene.network, &scene.line.url).await?;
        Ok(Self::Socket(Box::new(client)))
    }

    /// A user of the official package.
    pub(super) fn http(scene: &Scene) -> Result<Self> {
        let ready = &scene.network.ready;
        let mut process = Tools::find()?
            .python("python/openai_user.py")
            .env("HELIOGRAPH_BASE_URL", &ready.relay)
            .env("HELIOGRAPH_API_KEY", &ready.api_key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start Python")?;
        let orders = process.stdin.take().context("no standard input")?;
        let events = process.stdout.take().context("no standard output")?;
        Ok(Self::Http(Box::new(Python {
            _process: process,
            orders,
            events: BufReader::new(events).lines(),
            id: None,
        })))
    }

    /// Asks. Says the job's id where it is known at once.
    pub(super) async fn ask(&mut self, request: ChatRequest) -> Result<Option<String>> {
        match self {
            Self::Socket(client) => {
                let job = client.submit(MODEL, request).await?;
                Ok(Some(job.to_string()))
            }
            Self::Http(python) => {
                python.id = None;
                let line = format!("{}\n", body(&request));
                python.orders.write_all(line.as_bytes()).await?;
                Ok(None)
            }
        }
    }

    /// What comes next.
    pub(super) async fn next(&mut self) -> Result<Seen> {
        let what = match self {
            Self::Socket(client) => seen_by_socket(client).await?,
            Self::Http(python) => within("a word of the openai package", python.next()).await?,
        };
        Ok(Seen {
            at: Instant::now(),
            what,
        })
    }

    /// The job's id, where an HTTP user has heard of it by now.
    pub(super) fn id(&self) -> Option<String> {
        match self {
            Self::Socket(_) => None,
            Self::Http(python) => python.id.clone(),
        }
    }
}

async fn seen_by_socket(client: &mut Client) -> Result<What> {
    loop {
        match client.next().await?.1 {
            Event::Delta { text, .. } if !text.is_empty() => return Ok(What::Text(text)),
            Event::Completed {
                finish_reason,
                usage,
                ..
            } => return Ok(What::Ended(finish_reason, usage)),
            Event::Failed(failure) => {
                return Ok(What::Broke(format!(
                    "{:?}: {}",
                    failure.code, failure.message
                )));
            }
            Event::Interrupted => return Ok(What::Broke("interrupted".to_owned())),
            Event::Queued { .. }
            | Event::Assigned { .. }
            | Event::Started { .. }
            | Event::Delta { .. }
            | Event::Reconnecting => {}
        }
    }
}

impl Python {
    async fn next(&mut self) -> Result<What> {
        let line = self.events.next_line().await?.context("Python has ended")?;
        let event: Value = serde_json::from_str(&line)?;
        if let Some(id) = event.get("id").and_then(Value::as_str) {
            self.id = id.strip_prefix("chatcmpl-").map(str::to_owned);
        }
        if let Some(text) = event.get("text").and_then(Value::as_str) {
            return Ok(What::Text(text.to_owned()));
        }
        if let Some(error) = event.get("error") {
            return Ok(What::Broke(error.to_string()));
        }
        let reason = match event.get("finish_reason").and_then(Value::as_str) {
            Some("stop") => FinishReason::Stop,
            Some("length") => FinishReason::Length,
            _ => return Ok(What::Broke(format!("an end without a reason: {line}"))),
        };
        let count = |name: &str| {
            let value = event.get("usage")?.get(name)?.as_u64()?;
            u32::try_from(value).ok()
        };
        let (Some(prompt_tokens), Some(completion_tokens)) =
            (count("prompt_tokens"), count("completion_tokens"))
        else {
            bail!("no usage: {line}");
        };
        let usage = Usage {
            prompt_tokens,
            completion_tokens,
            cached_tokens: 0,
        };
        Ok(What::Ended(reason, usage))
    }
}

/// The arguments of `chat.completions.create`.
fn body(request: &ChatRequest) -> Value {
    let messages: Vec<Value> = request
        .messages
        .iter()
        .map(|message| json!({"role": message.role, "content": message.content}))
        .collect();
    let sampling = &request.sampling;
    let mut body = json!({
        "model": MODEL,
        "messages": messages,
        "max_tokens": request.max_tokens,
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        "stop": request.stop,
        "logit_bias": sampling.logit_bias.iter()
            .map(|entry| (entry.token.to_string(), json!(entry.bias)))
            .collect::<serde_json::Map<_, _>>(),
    });
    if let (ResponseFormat::JsonSchema { schema }, Some(fields)) =
        (&request.response_format, body.as_object_mut())
    {
        let described = json!({"name": "answer", "schema": schema, "strict": true});
        fields.insert(
            "response_format".to_owned(),
            json!({"type": "json_schema", "json_schema": described}),
        );
    }
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, value| {
            !value.is_null() && value.as_array().is_none_or(|all| !all.is_empty())
        });
    }
    body
}
