//! Who is measured: our engine, and others on the same model file. Each does all it does on one core.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::case::Case;
use super::server::Server;
use super::streams::{Figures, Stream};
use super::{ROOM_TOKENS, Stage, TEMPERATURE, THREADS};
use crate::console::{Step, say};
use crate::places::Places;
use crate::process::capture;
use crate::setup::Tools;
use crate::setup::peers::{NodeLlama, llama_server, node_llama};

/// Whom to measure beside us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// The engine that other networks ship, as npm has it
    NodeLlamaCpp,
    /// llama.cpp's own server, compiled like our engine
    LlamaServer,
}

impl Peer {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::NodeLlamaCpp, Self::LlamaServer];

    /// Its name, in tables and in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NodeLlamaCpp => "node-llama-cpp",
            Self::LlamaServer => "llama-server",
        }
    }
}

/// An engine that is there.
#[derive(Debug)]
pub(super) enum Engine {
    /// Ours, in one process with who asks it.
    Rig,
    /// In one process with who asks it.
    NodeLlama(NodeLlama),
    /// Asked over HTTP, by users on another core.
    LlamaServer(PathBuf),
}

/// Installs the wanted ones. One that cannot be installed is left out, and the reason said.
pub(super) fn install(places: &Places, tools: &Tools, wanted: &[Peer]) -> Vec<Engine> {
    let mut engines = vec![Engine::Rig];
    for &peer in wanted {
        let installed = match peer {
            Peer::NodeLlamaCpp => node_llama(places, tools).map(Engine::NodeLlama),
            Peer::LlamaServer => llama_server(places, tools).map(Engine::LlamaServer),
        };
        match installed {
            Ok(engine) => engines.push(engine),
            Err(error) => say(&format!("left out: {} ({error:#})", peer.name())),
        }
    }
    engines
}

impl Engine {
    /// Its name in tables.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Rig => "rig",
            Self::NodeLlama(_) => Peer::NodeLlamaCpp.name(),
            Self::LlamaServer(_) => Peer::LlamaServer.name(),
        }
    }

    /// One case, in processes that are new.
    pub(super) fn measure(&self, stage: &Stage<'_>, case: Case, round: u64) -> Result<Figures> {
        match self {
            Self::Rig => rig(stage, case, round),
            Self::NodeLlama(installed) => node(stage, installed, case, round),
            Self::LlamaServer(program) => Server::measure(stage, program, case, round),
        }
    }
}

fn rig(stage: &Stage<'_>, case: Case, round: u64) -> Result<Figures> {
    let prompts = if case.is_same() { "same" } else { "different" };
    let arguments = [
        ("--streams", case.streams().to_string()),
        ("--prompts", prompts.to_owned()),
        ("--prompt-tokens", case.prompt_tokens().to_string()),
        ("--generate", case.answer_tokens(stage.quick).to_string()),
        ("--stagger-ms", case.stagger_ms().to_string()),
        ("--seed", (round * 1000).to_string()),
    ];
    let [line] = &rig_bench(stage, stage.model, &arguments)?[..] else {
        bail!("the rig said something else than one measurement");
    };
    Ok(Figures::deserialize(line)?)
}

/// Runs the rig's own `bench`; what it measured, a value a line.
pub(super) fn rig_bench(
    stage: &Stage<'_>,
    model: &Path,
    arguments: &[(&str, String)],
) -> Result<Vec<Value>> {
    let mut command = stage.cores.engine(&stage.rig);
    command
        .args(["bench", "--json", "--model-file"])
        .arg(model)
        .args(["--threads", &THREADS.to_string()])
        .args(["--temperature", &TEMPERATURE.to_string()]);
    for (name, value) in arguments {
        command.args([name, value.as_str()]);
    }
    let text = capture(&mut Step::begin("rig"), &mut command)?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not figures: {line}")))
        .collect()
}

/// What the script of [`node`] prints.
#[derive(Debug, Deserialize)]
struct Answers {
    streams: Vec<Stream>,
}

fn node(stage: &Stage<'_>, installed: &NodeLlama, case: Case, round: u64) -> Result<Figures> {
    // Beside the package, where the script's imports are looked for.
    let script = installed.folder.join("measure.mjs");
    fs::copy(
        stage.places.root.join("benches/peers/node-llama-cpp.mjs"),
        &script,
    )?;
    let generate = case.answer_tokens(stage.quick);
    let plan = json!({
        "model": stage.model,
        "threads": THREADS,
        "contextTokens": case.prompt_tokens() + generate + ROOM_TOKENS,
        "generate": generate,
        "staggerMs": case.stagger_ms(),
        "temperature": TEMPERATURE,
        "seed": round,
        "warmUp": super::WARM_UP,
        "prompts": super::prompts(case, round),
    });
    let mut command = stage.cores.engine(&installed.node);
    command.arg(&script).arg(plan.to_string());
    let text = capture(&mut Step::begin("node-llama-cpp"), &mut command)?;
    let answers: Answers =
        serde_json::from_str(&text).with_context(|| format!("not figures: {text}"))?;
    Ok(Figures::of(&answers.streams))
}
