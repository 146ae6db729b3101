//! Engines of other people in headless Chromium, with the models that `bench webgpu` runs: wllama (llama.cpp compiled to
//! WebAssembly, one thread; on WebGPU only where its own log proves it) and transformers.js on WebGPU, with the same
//! weights converted to its format.
//!
//! `same_token_as_llama_cpp` tells how near the converted model is. Known: on `SwiftShader` the WebGPU kernels of ONNX Runtime
//! give other tokens for `SmolLM2` than its CPU kernels on the same file (7 against 13 of 16 like llama.cpp's). Not the
//! packing of queries with keys, zero points, accuracy level, subgroups, nor fusions; the cause was not found. Speed only.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::console::{Step, print};
use crate::places::Places;
use crate::process::{capture, guarded};
use crate::setup::peers::{browser_engines, browser_sources, onnx_model};
use crate::setup::{Purpose, Tools, chromium, second_model, setup};

/// Room in a context beside prompt and answer.
const ROOM_TOKENS: u32 = 64;

/// A model that every engine runs.
#[derive(Debug, Clone)]
pub(crate) struct PeerModel {
    /// What it is called in results.
    pub(crate) name: String,
    /// Its weights; of the families llama and gemma3.
    pub(crate) gguf: PathBuf,
}

/// Whom to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PeerEngine {
    /// llama.cpp in WebAssembly
    Wllama,
    /// ONNX Runtime on WebGPU
    TransformersJs,
}

impl PeerEngine {
    const fn name(self) -> &'static str {
        match self {
            Self::Wllama => "wllama",
            Self::TransformersJs => "transformers.js",
        }
    }
}

/// How much to measure.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Whom to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Self::default().engines)]
    pub(crate) engines: Vec<PeerEngine>,
    /// Lengths of prompts, in tokens; the answer follows the first. At most 512
    #[arg(long, value_delimiter = ',', default_values_t = Self::default().prompts,
        value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) prompts: Vec<u32>,
    /// Length of the answer, in tokens
    #[arg(long, default_value_t = Self::default().answer_tokens)]
    pub(crate) answer_tokens: u32,
    /// How often everything is run, after once for warming up
    #[arg(long, default_value_t = Self::default().rounds)]
    pub(crate) rounds: u32,
    /// How long one figure may take: less is run if it would take longer
    #[arg(long, default_value_t = Self::default().seconds)]
    pub(crate) seconds: u32,
    /// How long one engine may take with one model
    #[arg(long, default_value_t = Self::default().minutes)]
    pub(crate) minutes: u32,
}

impl Default for Options {
    /// What the command line has when nothing is said.
    fn default() -> Self {
        Self {
            engines: vec![PeerEngine::Wllama, PeerEngine::TransformersJs],
            prompts: vec![128, 512],
            answer_tokens: 64,
            rounds: 3,
            seconds: 120,
            minutes: 15,
        }
    }
}

/// Measures the demo's model and the tests' second one, and prints a line of JSON for each.
pub(super) fn run(places: &Places, options: &Options) -> Result<()> {
    let tools = setup(places, Purpose::Demo)?;
    let models = [
        PeerModel {
            name: "SmolLM2-135M Q4_1".to_owned(),
            gguf: tools.model.path,
        },
        PeerModel {
            name: "Gemma-3-270M Q4_K_M".to_owned(),
            gguf: second_model(places)?,
        },
    ];
    for line in peers(places, &models, options) {
        print(&format!("{line}\n"))?;
    }
    Ok(())
}

/// Installs what is missing, converts what is not converted, and measures. For each engine and model there is an object:
/// `peer`, `version`, `model`, `adapter` (the browser's WebGPU adapter, used or not), `backend` (`cpu`, `webgpu`),
/// `backend_proof`, `prefill` (`tokens`, `tokens_per_s` each) and `decode_tokens_per_s`; and `error`, if something went
/// wrong, with what was known by then.
pub(crate) fn peers(places: &Places, models: &[PeerModel], options: &Options) -> Vec<Value> {
    let ready = setup(places, Purpose::Demo)
        .and_then(|tools| Ok((browser_engines(places, &tools)?, tools)))
        .map_err(|error| format!("{error:#}"));
    let mut all = Vec::new();
    for model in models {
        let measured = match &ready {
            Ok((modules, tools)) => measure(places, tools, modules, model, options)
                .map_err(|error| format!("{error:#}")),
            Err(error) => Err(error.clone()),
        };
        match measured {
            Ok(lines) => all.extend(lines),
            Err(error) => {
                let left_out = |engine: &PeerEngine| {
                    let peer = engine.name();
                    json!({"peer": peer, "model": model.name, "error": error})
                };
                all.extend(options.engines.iter().map(left_out));
            }
        }
    }
    all
}

fn measure(
    places: &Places,
    tools: &Tools,
    modules: &Path,
    model: &PeerModel,
    options: &Options,
) -> Result<Vec<Value>> {
    let browser = chromium().context("no Chromium here; run `cargo xtask setup --tests`")?;
    let onnx = onnx_model(places, &model.gguf)?;
    let sources = browser_sources(places);
    let longest = options.prompts.iter().copied().max().unwrap_or(0);
    let plan = json!({
        "modules": modules,
        "pages": sources.join("pages"),
        "engines": options.engines.iter().map(|engine| engine.name()).collect::<Vec<_>>(),
        "models": [{"name": model.name, "gguf": model.gguf, "onnx": onnx}],
        "prompts": options.prompts,
        "answerTokens": options.answer_tokens,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "contextTokens": longest + options.answer_tokens + ROOM_TOKENS,
        "minutes": options.minutes,
    });
    let mut step = Step::begin(format!("others in Chromium: {}", model.name));
    let mut command = guarded(tools.node());
    command
        .arg(sources.join("measure.mjs"))
        .arg(plan.to_string())
        .env("HELIOGRAPH_NODE_MODULES", &tools.node_modules)
        .env("HELIOGRAPH_CHROMIUM", browser);
    let text = capture(&mut step, &mut command)?;
    step.done();
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not figures: {line}")))
        .collect()
}
