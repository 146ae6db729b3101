//! The whole network: users over HTTP, the relay, a rig with the real model. The rig has its core, everything else the
//! other.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::streams::{Figures, Stream, at_once, message, ms_since};
use super::{ROOM_TOKENS, Stage, TEMPERATURE, THREADS, seed};
use crate::bench::ours::OurRelay;
use crate::bench::parts::Part;
use crate::demo::slots_available;
use crate::http::{Request, ask};
use crate::setup::fresh_folder;

/// Chats at once.
const STREAMS: u32 = 8;

/// Tokens of each prompt and answer; long enough that what happens once in an answer weighs little.
const PROMPT_TOKENS: u32 = 128;
const ANSWER_TOKENS: u32 = 256;
const ANSWER_TOKENS_QUICK: u32 = 32;

/// Tokens of an answer that nobody times.
const WARM_UP_TOKENS: u32 = 64;

/// What ends an answer in the demo's model's vocabulary; each is forbidden, so that answers are as long as asked.
const ENDS: [&str; 2] = ["0", "2"];

/// The network, and our engine alone under the same chats.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair {
    pub(super) network: Figures,
    pub(super) alone: Figures,
}

/// One round of both.
pub(super) fn measure(stage: &Stage<'_>, round: u64) -> Result<Pair> {
    let generate = if stage.quick {
        ANSWER_TOKENS_QUICK
    } else {
        ANSWER_TOKENS
    };
    let network = through_all(stage, round, generate)?;
    let arguments = [
        ("--streams", STREAMS.to_string()),
        ("--prompt-tokens", PROMPT_TOKENS.to_string()),
        ("--generate", generate.to_string()),
        ("--seed", (round * 1000).to_string()),
    ];
    let lines = super::engines::rig_bench(stage, stage.model, &arguments)?;
    let line = lines.first().context("the rig measured nothing")?;
    Ok(Pair {
        network,
        alone: serde::Deserialize::deserialize(line)?,
    })
}

fn through_all(stage: &Stage<'_>, round: u64, generate: u32) -> Result<Figures> {
    let folder = stage.folder.join("network");
    fresh_folder(&folder)?;
    let relay = OurRelay::start(stage.places, stage.tools, &folder)?;
    let model = &stage.tools.model.id;
    let mut command = stage.cores.engine(&stage.rig);
    command
        .args(["--relay", &format!("ws://{}", relay.listen())])
        .args(["--model", model, "--name", "rig-bench", "--model-file"])
        .arg(stage.model)
        .args(["--slots", &STREAMS.to_string()])
        .args(["--threads", &THREADS.to_string()])
        .args([
            "--context",
            &(PROMPT_TOKENS + generate + ROOM_TOKENS).to_string(),
        ])
        .env("HELIOGRAPH_METRICS_PORT", "0")
        .env("HELIOGRAPH_KEY", &relay.node_key);
    let mut rig = Part::start(&folder, "rig", &mut command)?;
    let key = Some(relay.api_key.as_str());
    rig.wait_until("the rig", |_| {
        let models = ask(relay.port, "/v1/models", &Request { key, json: None });
        let models = models.and_then(crate::http::Response::text);
        models.is_ok_and(|models| slots_available(&models, model) >= u64::from(STREAMS))
    })?;
    // The runtime compiles our Worker once more while it runs, which a relay that stays up pays once. One chat only: what
    // it leaves in the engine's cache is as little as what `rig bench` leaves there before its clock starts.
    chat(
        &relay,
        model,
        seed(round, 99),
        WARM_UP_TOKENS,
        Instant::now(),
    )?;
    let numbers: Vec<u64> = (0..u64::from(STREAMS))
        .map(|user| seed(round, user))
        .collect();
    let streams = at_once(&numbers, 0, |number, began| {
        chat(&relay, model, *number, generate, began)
    })?;
    Ok(Figures::of(&streams))
}

/// One user.
fn chat(relay: &OurRelay, model: &str, number: u64, tokens: u32, began: Instant) -> Result<Stream> {
    let bias: serde_json::Map<String, Value> = ENDS
        .iter()
        .map(|end| ((*end).to_owned(), json!(-100)))
        .collect();
    let body = json!({
        "model": model,
        "stream": true,
        "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": message(PROMPT_TOKENS, number)}],
        "max_tokens": tokens,
        "temperature": TEMPERATURE,
        "logit_bias": bias,
    })
    .to_string();
    let asked_ms = ms_since(began, Instant::now());
    let request = Request {
        key: Some(&relay.api_key),
        json: Some(&body),
    };
    let mut response = ask(relay.port, "/v1/chat/completions", &request)?;
    if response.status != 200 {
        let status = response.status;
        bail!("the relay answered {status}: {}", response.text()?);
    }
    let (mut first, mut last, mut usage) = (None, None, None);
    while let Some(line) = response.line()? {
        let at = Instant::now();
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        if data == "[DONE]" {
            break;
        }
        let event: Value = serde_json::from_str(data)?;
        if let Some(error) = event.get("error") {
            bail!("the relay failed: {error}");
        }
        let text = event.pointer("/choices/0/delta/content");
        if text
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty())
        {
            first.get_or_insert(at);
            last = Some(at);
        }
        if let Some(counts) = event.get("usage").filter(|counts| counts.is_object()) {
            usage = Some(counts.clone());
        }
    }
    let usage = usage.context("an answer without its usage")?;
    let count = |name: &str| {
        let count = usage.get(name).and_then(Value::as_u64);
        count.and_then(|count| u32::try_from(count).ok())
    };
    let first = first.context("an answer without a token")?;
    Ok(Stream {
        asked_ms,
        first_ms: ms_since(began, first),
        last_ms: ms_since(began, last.unwrap_or(first)),
        tokens: count("completion_tokens").context("no completion_tokens")?,
        prompt_tokens: count("prompt_tokens").context("no prompt_tokens")?,
    })
}
