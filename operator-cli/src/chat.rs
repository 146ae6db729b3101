//! `chat`: a conversation in the terminal, through the same `/v1/chat/completions` that any client uses.
//! Ctrl-C stops the answer and not the program, Ctrl-D ends.

mod events;

use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::cli::ChatOptions;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::voice::{STOPPED, Voice, print, print_dimmed};
use events::{Events, Piece};

/// The environment's variable with the API key.
const API_KEY: &str = "HELIOGRAPH_API_KEY";

/// Long enough for any network, short enough not to be taken for a waiting answer.
const CONNECT_MAX: Duration = Duration::from_secs(15);

/// A wait that is worth a word: most answers begin sooner.
const SILENCE: Duration = Duration::from_secs(3);

/// How much of an error's body is read.
const ERROR_BYTES_MAX: usize = 16 << 10;

/// A client that trusts what the system trusts.
pub(crate) fn client() -> Result<reqwest::Client> {
    // An error says that somebody has chosen one before, which is as good.
    _ = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder()
        .connect_timeout(CONNECT_MAX)
        .build()?)
}

/// The relay's address for HTTP.
pub(crate) fn base(relay: &str) -> Result<String> {
    let (scheme, rest) = relay
        .split_once("://")
        .context("--relay: write it as wss://relay.example")?;
    let scheme = match scheme {
        "ws" | "http" => "http",
        "wss" | "https" => "https",
        _ => bail!("--relay: the scheme must be wss or https"),
    };
    Ok(format!("{scheme}://{}", rest.trim_end_matches('/')))
}

/// An error of the client's with what is behind it: alone it only says that something could not be sent.
#[expect(clippy::needless_pass_by_value, reason = "the shape of `map_err`")]
pub(crate) fn causes(error: reqwest::Error) -> anyhow::Error {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    anyhow!(text)
}

/// A conversation with one model.
struct Conversation {
    voice: Voice,
    client: reqwest::Client,
    base: String,
    key: Option<Secret>,
    model: String,
    max_tokens: Option<u32>,
    messages: Vec<Value>,
}

/// How an answer ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole,
    Stopped,
}

/// Chats until the end of input. A single question that was stopped has no whole answer, which its exit code says.
pub(crate) async fn run(
    voice: Voice,
    settings: &Settings,
    options: ChatOptions,
) -> Result<ExitCode> {
    let relay = settings.needed_relay(options.relay.as_deref())?;
    let file = options.api_key_file.as_deref();
    let mut conversation = Conversation {
        voice,
        client: client()?,
        base: base(&relay)?,
        key: Secret::read("hg-", file, API_KEY, settings.api_key_file.as_deref())?,
        model: String::new(),
        max_tokens: options.max_tokens,
        messages: Vec::new(),
    };
    conversation.model = match options.model {
        Some(model) => model,
        None => conversation.first_served().await?,
    };
    if let Some(system) = options.system {
        conversation
            .messages
            .push(json!({ "role": "system", "content": system }));
    }
    match options.once {
        Some(prompt) => Ok(match conversation.ask(&prompt).await? {
            End::Whole => ExitCode::SUCCESS,
            End::Stopped => ExitCode::from(STOPPED),
        }),
        None => conversation.talk().await.map(|()| ExitCode::SUCCESS),
    }
}

impl Conversation {
    async fn talk(&mut self) -> Result<()> {
        let mut lines = read_lines();
        let by_hand = std::io::stdin().is_terminal() && !self.voice.is_json();
        if by_hand {
            let text = format!("{} · Ctrl-C stops an answer, Ctrl-D ends", self.model);
            self.voice
                .event("chat", json!({ "model": self.model }), &text);
        }
        loop {
            if by_hand {
                print("> ")?;
            }
            let line = tokio::select! {
                line = lines.recv() => line,
                signal = tokio::signal::ctrl_c() => {
                    signal?;
                    self.voice.event("idle", json!({}), "\nCtrl-D ends");
                    continue;
                }
            };
            let Some(line) = line else {
                if by_hand {
                    print("\n")?;
                }
                return Ok(());
            };
            if line.trim().is_empty() {
                continue;
            }
            // One failed question does not end a conversation.
            if let Err(error) = self.ask(&line).await {
                self.messages.pop();
                self.voice.error(&error);
            }
        }
    }

    /// Asks, prints the answer as it comes, and remembers both.
    async fn ask(&mut self, prompt: &str) -> Result<End> {
        self.messages
            .push(json!({ "role": "user", "content": prompt }));
        let mut answer = String::new();
        let end = tokio::select! {
            end = self.stream(&mut answer) => end?,
            // Dropping the request is what tells the relay.
            signal = tokio::signal::ctrl_c() => { signal?; Answered::stopped() }
        };
        if self.voice.is_json() {
            let line = json!({
                "answer": answer, "model": self.model, "finish_reason": end.finish_reason, "usage": end.usage,
                "stopped": end.end == End::Stopped,
            });
            self.voice.result(&line, "");
        } else {
            print("\n")?;
            if let Some(note) = end.note() {
                self.voice.event("note", json!({}), note);
            }
        }
        self.messages
            .push(json!({ "role": "assistant", "content": answer }));
        Ok(end.end)
    }

    async fn stream(&self, answer: &mut String) -> Result<Answered> {
        let mut body = json!({
            "model": self.model, "messages": self.messages, "stream": true,
            "stream_options": { "include_usage": true },
        });
        if let (Some(most), Some(fields)) = (self.max_tokens, body.as_object_mut()) {
            fields.insert("max_tokens".to_owned(), json!(most));
        }
        let url = format!("{}/v1/chat/completions", self.base);
        let silence = tokio::time::sleep(SILENCE);
        tokio::pin!(silence);
        let mut bytes = self
            .send(self.client.post(url).json(&body))
            .await?
            .bytes_stream();
        let mut events = Events::default();
        let mut answered = Answered {
            end: End::Whole,
            finish_reason: None,
            usage: None,
        };
        let mut has_begun = false;
        loop {
            let chunk = tokio::select! {
                chunk = bytes.next() => chunk,
                () = &mut silence, if !has_begun => {
                    has_begun = true;
                    self.tell_wait().await;
                    continue;
                }
            };
            let Some(chunk) = chunk else { break };
            for piece in events.take(&chunk.map_err(causes)?)? {
                has_begun = true;
                match piece {
                    Piece::Text(text) => {
                        if !self.voice.is_json() {
                            print(&text)?;
                        }
                        answer.push_str(&text);
                    }
                    Piece::Reasoning(text) => {
                        if self.voice.is_drawn() {
                            print_dimmed(&text)?;
                        }
                    }
                    Piece::Finished(reason) => answered.finish_reason = Some(reason),
                    Piece::Usage(usage) => answered.usage = Some(usage),
                    Piece::Failed(message) => bail!("the answer broke off: {message}"),
                }
            }
        }
        if !events.is_done() {
            bail!("the answer broke off: the connection ended early");
        }
        Ok(answered)
    }

    /// Says what an answer waits for, as far as the relay tells.
    async fn tell_wait(&self) {
        let url = format!("{}/v1/models/{}", self.base, self.model);
        let model: Option<Value> = match self.send(self.client.get(url)).await {
            Ok(response) => response.json().await.ok(),
            Err(_) => None,
        };
        let slots = model.and_then(|model| model.get("slots")?.as_u64());
        let reason = if slots == Some(0) {
            format!("nobody serves {} at the moment", self.model)
        } else {
            format!("no node is free for {} at the moment", self.model)
        };
        let text = format!("{reason}; waiting (Ctrl-C gives up)");
        self.voice.event(
            "waiting",
            json!({ "model": self.model, "slots": slots }),
            &text,
        );
    }

    /// The first model that a node serves at the moment.
    async fn first_served(&self) -> Result<String> {
        let url = format!("{}/v1/models", self.base);
        let response = self.send(self.client.get(url)).await?;
        let models: Value = response.json().await.map_err(causes)?;
        let all = models.get("data").and_then(Value::as_array);
        let slots = |model: &&Value| model.get("slots").and_then(Value::as_u64).unwrap_or(0);
        let model = all.into_iter().flatten().find(|model| slots(model) > 0);
        let id = model
            .and_then(|model| model.get("id"))
            .and_then(Value::as_str);
        id.map(str::to_owned)
            .context("nobody serves a model on this network at the moment: try again later, or serve one (`heliograph up rig`)")
    }

    /// Sends a request with our key; an answer that is no success is an error.
    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response> {
        let request = match &self.key {
            Some(key) => request.bearer_auth(key.reveal()),
            None => request,
        };
        let response = request.send().await.map_err(causes).with_context(|| {
            format!(
                "{0} does not answer: check the address; `heliograph doctor --relay {0}` looks further",
                self.base
            )
        })?;
        checked(response).await
    }
}

/// What a stream came to.
struct Answered {
    end: End,
    finish_reason: Option<String>,
    usage: Option<Value>,
}

impl Answered {
    fn stopped() -> Self {
        Self {
            end: End::Stopped,
            finish_reason: None,
            usage: None,
        }
    }

    /// What a person should know about an ending that is not the ordinary one.
    fn note(&self) -> Option<&'static str> {
        match (&self.end, self.finish_reason.as_deref()) {
            (End::Stopped, _) => Some("[stopped]"),
            (End::Whole, Some("length")) => {
                Some("[cut off: the answer reached its longest length]")
            }
            (End::Whole, _) => None,
        }
    }
}

/// An answer that is a success, or else what the relay says is wrong.
async fn checked(response: reqwest::Response) -> Result<reqwest::Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let mut body = Vec::new();
    let mut bytes = response.bytes_stream();
    while let Some(Ok(chunk)) = bytes.next().await {
        body.extend_from_slice(&chunk);
        if body.len() > ERROR_BYTES_MAX {
            break;
        }
    }
    let message = serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|body| Some(body.pointer("/error/message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| "the relay gives no reason".to_owned());
    let hint = if status.as_u16() == 401 {
        "; an API key begins with hg- and comes from --api-key-file or HELIOGRAPH_API_KEY"
    } else {
        ""
    };
    bail!("{message} (HTTP {}){hint}", status.as_u16())
}

/// Lines of standard input. A thread of its own, since reading a terminal cannot be given up.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relays_socket_address_is_its_address_for_http() {
        assert_eq!(
            base("wss://relay.example/").unwrap(),
            "https://relay.example"
        );
        assert_eq!(base("ws://127.0.0.1:1").unwrap(), "http://127.0.0.1:1");
        assert!(base("relay.example").is_err());
        assert!(base("ftp://relay.example").is_err());
    }

    #[test]
    fn only_an_odd_ending_is_remarked_upon() {
        let ended = |reason: &str| Answered {
            end: End::Whole,
            finish_reason: Some(reason.into()),
            usage: None,
        };
        assert_eq!(ended("stop").note(), None);
        assert!(ended("length").note().unwrap().contains("longest"));
        assert_eq!(Answered::stopped().note(), Some("[stopped]"));
    }
}
