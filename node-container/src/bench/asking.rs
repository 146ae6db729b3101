//! Asks an engine for answers of a given length to prompts of a given length.

use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context as _, bail};
use llama_cpp_2::model::LlamaModel;
use protocol::chat::{LogitBias, Sampling};
use protocol::{ChatMessage, ChatRequest, JobRequest, Role};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::words::question;
use crate::engine::llama::{self, LlamaOptions, Spawned};
use crate::engine::{Command, EngineEvent, JobKey};

/// "Never".
const BIAS_MIN: f32 = -100.0;

/// A prompt of the wanted length is sought so often at most; each time the difference shrinks.
const FITTINGS_MAX: u32 = 8;

/// An engine, and how it is asked.
#[derive(Debug)]
pub(super) struct Asking {
    commands: UnboundedSender<Command>,
    events: UnboundedReceiver<EngineEvent>,
    thread: JoinHandle<()>,
    /// Tokens that would end an answer early.
    ends: Vec<LogitBias>,
    temperature: f32,
    seed: u64,
    next_key: u64,
}

impl Asking {
    /// Loads the model.
    pub(super) fn begin(
        options: LlamaOptions,
        temperature: f32,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let ends = llama::with_vocabulary(&options, end_tokens)?;
        let (event_sender, events) = unbounded_channel();
        let Spawned {
            loaded: _,
            commands,
            thread,
        } = llama::spawn(options, event_sender)?;
        Ok(Self {
            commands,
            events,
            thread,
            ends,
            temperature,
            seed,
            next_key: 1,
        })
    }

    /// Waits for the engine's end.
    pub(super) fn end(self) {
        // It may have died, which was told then.
        drop(self.commands.send(Command::Shutdown));
        drop(self.thread.join());
    }

    /// A request whose prompt has nearly `tokens` tokens and whose answer exactly `generate`. No two are alike.
    pub(super) async fn request(
        &mut self,
        tokens: u32,
        generate: u32,
    ) -> anyhow::Result<ChatRequest> {
        // Another number than the one that is asked in the end: the engine may have read a part of what it was to count,
        // and would not read it again.
        let (fitting, seed) = (self.seed + 1, self.seed + 2);
        self.seed = seed;
        let mut words = tokens;
        for _ in 0..FITTINGS_MAX {
            let found = self
                .length(self.with_words(fitting, words, generate))
                .await?;
            if found == tokens || (words == 0 && found > tokens) {
                break;
            }
            words = (words + tokens).saturating_sub(found);
        }
        Ok(self.with_words(seed, words, generate))
    }

    fn with_words(&self, seed: u64, words: u32, generate: u32) -> ChatRequest {
        ChatRequest {
            messages: vec![ChatMessage::new(Role::User, question(words, seed))],
            max_tokens: Some(generate),
            sampling: Sampling {
                temperature: Some(self.temperature),
                // No seed: what is seeded is read again every time, so that it comes out the same.
                logit_bias: self.ends.clone(),
                ..Sampling::default()
            },
            ..ChatRequest::default()
        }
    }

    /// The length of the rendered prompt.
    async fn length(&mut self, request: ChatRequest) -> anyhow::Result<u32> {
        let key = self.start(request)?;
        let mut length = None;
        loop {
            let (event, _) = self.event().await?;
            match event {
                EngineEvent::Accepted {
                    key: of,
                    prompt_tokens,
                    ..
                } if of == key => {
                    length = Some(prompt_tokens);
                    self.stop(key)?;
                }
                EngineEvent::Cancelled { key: of, .. } | EngineEvent::Finished { key: of, .. }
                    if of == key =>
                {
                    return length.context("the engine ended a prompt that it had not accepted");
                }
                EngineEvent::Failed { failure, .. } => bail!("the engine failed: {failure}"),
                EngineEvent::Accepted { .. }
                | EngineEvent::Progress { .. }
                | EngineEvent::Step(_)
                | EngineEvent::Finished { .. }
                | EngineEvent::Checked { .. }
                | EngineEvent::Cached(_)
                | EngineEvent::Cancelled { .. } => {}
            }
        }
    }

    /// Starts a chat.
    pub(super) fn start(&mut self, request: ChatRequest) -> anyhow::Result<JobKey> {
        let key = JobKey(self.next_key);
        self.next_key += 1;
        self.command(Command::Start {
            key,
            model: String::new(),
            request: Box::new(JobRequest::Chat(request)),
            answer: None,
            prefix: None,
        })?;
        Ok(key)
    }

    /// Leaves one out of steps.
    pub(super) fn pause(&self, key: JobKey) -> anyhow::Result<()> {
        self.command(Command::Pause { key })
    }

    /// Stops one.
    pub(super) fn stop(&self, key: JobKey) -> anyhow::Result<()> {
        self.command(Command::Stop { key })
    }

    fn command(&self, command: Command) -> anyhow::Result<()> {
        self.commands.send(command).ok().context("the engine died")
    }

    /// The next event, and when it came.
    pub(super) async fn event(&mut self) -> anyhow::Result<(EngineEvent, Instant)> {
        let event = self.events.recv().await.context("the engine died")?;
        Ok((event, Instant::now()))
    }
}

fn end_tokens(model: &LlamaModel) -> Vec<LogitBias> {
    let vocab = model.vocab();
    vocab
        .tokens()
        .filter(|token| vocab.is_eog(*token))
        .filter_map(|token| u32::try_from(token.0).ok())
        .map(|token| LogitBias {
            token,
            bias: BIAS_MIN,
        })
        .collect()
}
