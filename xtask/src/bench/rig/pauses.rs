//! How long seven chats pause while a long prompt arrives.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::engines::{Engine, rig_bench};
use super::server::{Question, Server};
use super::streams::{median, ms_since, prompt, quantile};
use super::{ROOM_TOKENS, Stage, seed};

/// Chats that stream, as in `rig bench`.
const STREAMS: u32 = 7;

/// Tokens of each one's prompt, and the most that each says. The chats must go on until the prompt is read.
const QUESTION_TOKENS: u32 = 64;
const ANSWER_TOKENS: u32 = 4096;

/// Tokens that each has said before the prompt arrives.
const TOKENS_BEFORE: usize = 64;

/// The prompt that arrives.
pub(super) const ARRIVING_TOKENS: u32 = 4000;

/// What was measured, in milliseconds. The names are those of `rig bench --json`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(super) struct Pauses {
    /// Between two tokens of a chat before the prompt: the median.
    pub(super) step_ms_median: f64,
    pub(super) pause_ms_p50: f64,
    pub(super) pause_ms_p90: f64,
    pub(super) pause_ms_p99: f64,
    pub(super) pause_ms_max: f64,
    /// From the prompt's arrival to its first token.
    pub(super) arriving_first_token_ms: f64,
    /// Two steps and a piece of the prompt; only our engine says how long its pieces are.
    pub(super) bound_ms: Option<f64>,
}

/// One round of one engine; nothing for one that has no users of its own kind.
pub(super) fn measure(stage: &Stage<'_>, engine: &Engine, round: u64) -> Result<Option<Pauses>> {
    match engine {
        Engine::Rig => {
            let arguments = [
                ("--arriving-tokens", ARRIVING_TOKENS.to_string()),
                ("--seed", (round * 1000).to_string()),
            ];
            let lines = rig_bench(stage, stage.model, &arguments)?;
            let line = lines.first().context("the rig measured nothing")?;
            Ok(Some(Pauses::deserialize(line)?))
        }
        Engine::NodeLlama(_) => Ok(None),
        Engine::LlamaServer(program) => server(stage, program, round).map(Some),
    }
}

/// A token, told by the user of this number.
type Told = (usize, Instant);

fn server(stage: &Stage<'_>, program: &Path, round: u64) -> Result<Pauses> {
    let context = ARRIVING_TOKENS.max(ANSWER_TOKENS + QUESTION_TOKENS) + ROOM_TOKENS;
    let server = Server::start(stage, program, STREAMS + 1, context)?;
    let (is_over, began) = (AtomicBool::new(false), Instant::now());
    let (sender, told) = channel::<Told>();
    let (server, is_over) = (&server, &is_over);
    thread::scope(|scope| {
        for number in 0..u64::from(STREAMS) {
            let sender = sender.clone();
            let question = Question {
                prompt: prompt(QUESTION_TOKENS, seed(round, number)),
                tokens: ANSWER_TOKENS,
                seed: number + 1,
            };
            scope.spawn(move || {
                let user = usize::try_from(number).unwrap_or(usize::MAX);
                server.chat(&question, began, |at| {
                    // Nobody listens any more once the measurement is over.
                    sender.send((user, at)).is_ok() && !is_over.load(Ordering::Relaxed)
                })
            });
        }
        drop(sender);
        let measured = follow(server, round, &told);
        is_over.store(true, Ordering::Relaxed);
        measured
    })
}

fn follow(server: &Server, round: u64, told: &Receiver<Told>) -> Result<Pauses> {
    let streams = usize::try_from(STREAMS)?;
    let mut gaps = Gaps {
        last: vec![None; streams],
        ms: Vec::new(),
    };
    // What lies before all of them stream does not count.
    while gaps.ms.len() < streams * TOKENS_BEFORE {
        gaps.note(told.recv().context("a chat ended before the prompt came")?);
        if gaps.last.iter().any(Option::is_none) {
            gaps.ms.clear();
        }
    }
    let steps = std::mem::take(&mut gaps.ms);
    let arriving = Question {
        prompt: prompt(ARRIVING_TOKENS, seed(round, 90)),
        tokens: 1,
        seed: 1,
    };
    let asked = Instant::now();
    let answer = server.chat(&arriving, asked, |_| true)?;
    for one in told.try_iter() {
        if ms_since(asked, one.1) <= answer.first_ms {
            gaps.note(one);
        }
    }
    if gaps.ms.is_empty() {
        // Nobody said anything while the prompt was read: the pause is all of it.
        gaps.ms.push(answer.first_ms);
    }
    if answer.prompt_tokens + QUESTION_TOKENS < ARRIVING_TOKENS {
        bail!("the prompt had {} tokens only", answer.prompt_tokens);
    }
    let at = |percent| quantile(gaps.ms.clone(), percent).unwrap_or(f64::NAN);
    Ok(Pauses {
        step_ms_median: median(steps).unwrap_or(f64::NAN),
        pause_ms_p50: at(50),
        pause_ms_p90: at(90),
        pause_ms_p99: at(99),
        pause_ms_max: at(100),
        arriving_first_token_ms: answer.first_ms - answer.asked_ms,
        bound_ms: None,
    })
}

/// Times between tokens, and when each user was told the last.
struct Gaps {
    last: Vec<Option<Instant>>,
    ms: Vec<f64>,
}

impl Gaps {
    fn note(&mut self, (user, at): Told) {
        let Some(last) = self.last.get_mut(user) else {
            return;
        };
        if let Some(before) = last.replace(at) {
            self.ms.push(ms_since(before, at));
        }
    }
}
