//! llama.cpp's own server under users of ours: a streaming HTTP request each.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::case::Case;
use super::streams::{Figures, Stream, at_once, ms_since};
use super::{Stage, TEMPERATURE};
use crate::bench::parts::{Part, free_port};
use crate::http::{Request, ask};

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Server {
    port: u16,
    /// Ended with this.
    _process: Part,
}

/// What one user asks.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) prompt: String,
    pub(super) tokens: u32,
    pub(super) seed: u64,
}

impl Server {
    /// Starts it with room for so many chats of so many tokens each, and runs each slot once.
    pub(super) fn start(
        stage: &Stage<'_>,
        program: &Path,
        slots: u32,
        context: u32,
    ) -> Result<Self> {
        let port = free_port()?;
        let threads = super::THREADS.to_string();
        let mut command = stage.cores.engine(program);
        command
            .arg("--model")
            .arg(stage.model)
            .args(["--threads", &threads, "--threads-batch", &threads])
            .args(["--parallel", &slots.to_string(), "--cont-batching"])
            .args(["--ctx-size", &(slots * context).to_string()])
            .args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        let mut process = Part::start(&stage.folder, "llama-server", &mut command)?;
        process.wait_for_http(port, "/health")?;
        let server = Self {
            port,
            _process: process,
        };
        let question = Question {
            prompt: super::WARM_UP.to_owned(),
            tokens: 4,
            seed: 1,
        };
        server.chats(&vec![question; usize::try_from(slots)?], 0)?;
        Ok(server)
    }

    /// One case.
    pub(super) fn measure(
        stage: &Stage<'_>,
        program: &Path,
        case: Case,
        round: u64,
    ) -> Result<Figures> {
        let tokens = case.answer_tokens(stage.quick);
        let context = case.prompt_tokens() + tokens + super::ROOM_TOKENS;
        let server = Self::start(stage, program, case.streams(), context)?;
        let questions: Vec<Question> = super::prompts(case, round)
            .into_iter()
            .zip(1..)
            .map(|(prompt, seed)| Question {
                prompt,
                tokens,
                seed,
            })
            .collect();
        Ok(Figures::of(&server.chats(&questions, case.stagger_ms())?))
    }

    /// Asks all of it, each question some time after the one before, and waits for all answers.
    fn chats(&self, questions: &[Question], stagger_ms: u32) -> Result<Vec<Stream>> {
        at_once(questions, stagger_ms, |question, began| {
            self.chat(question, began, |_| true)
        })
    }

    /// Asks, and tells of each token when it came. Hangs up when told `false`.
    pub(super) fn chat(
        &self,
        question: &Question,
        began: Instant,
        mut told: impl FnMut(Instant) -> bool,
    ) -> Result<Stream> {
        let body = json!({
            "prompt": question.prompt,
            "n_predict": question.tokens,
            "seed": question.seed,
            "stream": true,
            "cache_prompt": true,
            "ignore_eos": true,
            // The temperature and nothing else, as everybody else samples.
            "samplers": ["temperature"],
            "temperature": TEMPERATURE,
        })
        .to_string();
        let asked_ms = ms_since(began, Instant::now());
        let mut response = ask(
            self.port,
            "/completion",
            &Request {
                json: Some(&body),
                key: None,
            },
        )?;
        if response.status != 200 {
            bail!("llama-server answered {}", response.status);
        }
        let (mut first, mut last) = (None, None);
        while let Some(line) = response.line()? {
            let at = Instant::now();
            let Some(event) = line.strip_prefix("data: ") else {
                continue;
            };
            let event: Value = serde_json::from_str(event)?;
            let number = |name: &str| {
                let count = event.get(name).and_then(Value::as_u64);
                count.and_then(|count| u32::try_from(count).ok())
            };
            if event.get("stop").and_then(Value::as_bool) == Some(true) {
                let first = first.context("an answer without a token")?;
                return Ok(Stream {
                    asked_ms,
                    first_ms: ms_since(began, first),
                    last_ms: ms_since(began, last.unwrap_or(first)),
                    tokens: number("tokens_predicted").context("no tokens_predicted")?,
                    prompt_tokens: number("tokens_evaluated").context("no tokens_evaluated")?,
                });
            }
            first.get_or_insert(at);
            last = Some(at);
            if !told(at) {
                break;
            }
        }
        let first = first.context("the server said nothing")?;
        Ok(Stream {
            asked_ms,
            first_ms: ms_since(began, first),
            last_ms: ms_since(began, last.unwrap_or(first)),
            tokens: 0,
            prompt_tokens: 0,
        })
    }
}
