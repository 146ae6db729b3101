//! `bench webgpu`: our WebGPU engine natively and in Chromium, beside engines of other people in the same browser, and
//! its logits beside llama.cpp's.
//!
//! ```text
//! truth   rig logits (weights as 32-bit floats) ──file──▶ webgpu compare ◀── our engine, natively or in a worker
//! speed   webgpu speed | our worker in Chromium | wllama, transformers.js in Chromium
//! ```
//! Natively it is Mesa's Vulkan in software, the same adapter on every machine, unless `VK_ICD_FILENAMES` or
//! `--any-adapter` say otherwise.

mod build;
mod chromium;
mod native;
mod speed;
mod truth;

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::machine;
use super::parts::Folder;
use super::webgpu_peers::PeerEngine;
use crate::console::print;
use crate::places::Places;
use crate::process::interrupted;
use crate::setup::{Purpose, Tools, second_model, setup, webgpu};
use native::Native;

/// Of how many tokens logits are compared where nothing but the running matters.
const QUICK_POSITIONS: u32 = 48;

/// What to measure.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line, in any combination"
)]
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only how near our logits are to llama.cpp's
    #[arg(long)]
    truth: bool,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// These models only
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["smollm2", "gemma3"])]
    models: Vec<Name>,
    /// Which of our kernels
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["f32", "packed-dot"])]
    kernels: Vec<Kernels>,
    /// Where they run
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["native", "chromium"])]
    places: Vec<Place>,
    /// Tokens whose logits are compared, of each model
    #[arg(long, default_value_t = 2048)]
    positions: u32,
    /// Whom to measure beside us; `--peers` alone means nobody
    #[arg(long, value_enum, num_args = 0.., value_delimiter = ',', default_values = ["wllama", "transformers-js"])]
    peers: Vec<PeerEngine>,
    /// How often speeds are measured, after once for warming up
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Little of everything, to see that all of it runs; the figures mean little
    #[arg(long)]
    quick: bool,
    /// Natively the adapter that Vulkan's loader prefers, instead of the one in software
    #[arg(long)]
    any_adapter: bool,
}

/// A model that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// The demo's model
    Smollm2,
    /// One with sliding windows
    Gemma3,
}

/// How our kernels multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kernels {
    /// In 32-bit floats
    F32,
    /// With activations rounded to 8 bits
    PackedDot,
}

/// Where our engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Place {
    /// As a program
    Native,
    /// In a worker of a headless Chromium
    Chromium,
}

/// A model's weights.
#[derive(Debug, Clone)]
struct Model {
    /// What it is called in results.
    name: &'static str,
    gguf: PathBuf,
}

/// Everything that is installed and built.
struct Stage<'a> {
    places: &'a Places,
    tools: &'a Tools,
    folder: PathBuf,
    native: Native,
    options: &'a Options,
}

/// Measures and prints.
pub(crate) fn run(places: &Places, options: &Options) -> Result<()> {
    let tools = setup(places, Purpose::Demo)?;
    webgpu(places)?;
    let models = options.models.iter().map(|name| name.find(places, &tools));
    let models: Vec<Model> = models.collect::<Result<_>>()?;
    let program = build::programs(places, options.truth)?;
    let folder = Folder::new(&places.cache)?;
    let stage = Stage {
        places,
        tools: &tools,
        folder: folder.0.clone(),
        native: Native::new(program, options.any_adapter),
        options,
    };
    let measured = if options.truth {
        truth::run(&stage, &models)?
    } else {
        speed::run(&stage, &models)?
    };
    print(&measured.table)?;
    print(&format!("\n{}\n", machine()))?;
    if options.json {
        print(&format!("{}\n", measured.json))?;
    }
    if !measured.failures.is_empty() {
        bail!("{}", measured.failures.join("\n"));
    }
    Ok(())
}

/// What came of it.
#[derive(Debug, Default)]
struct Outcome {
    /// For people, as far as it was not printed when it came.
    table: String,
    /// One line.
    json: serde_json::Value,
    /// What could not be measured.
    failures: Vec<String>,
}

impl Name {
    fn find(self, places: &Places, tools: &Tools) -> Result<Model> {
        Ok(match self {
            Self::Smollm2 => Model {
                name: "SmolLM2-135M Q4_1",
                gguf: tools.model.path.clone(),
            },
            Self::Gemma3 => Model {
                name: "Gemma-3-270M Q4_K_M",
                gguf: second_model(places)?,
            },
        })
    }
}

impl Kernels {
    /// As programs and results call them.
    const fn word(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::PackedDot => "packed-dot",
        }
    }
}

impl Place {
    const fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Chromium => "chromium",
        }
    }
}

impl Options {
    /// Tokens whose logits are compared.
    fn positions(&self) -> u32 {
        if self.quick {
            self.positions.min(QUICK_POSITIONS)
        } else {
            self.positions
        }
    }

    const fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }
}

impl Stage<'_> {
    /// All that are asked for: our kernels and where they run.
    fn variants(&self) -> impl Iterator<Item = (Place, Kernels)> {
        let kernels = &self.options.kernels;
        let places = self.options.places.iter();
        places.flat_map(move |place| kernels.iter().map(move |kernels| (*place, *kernels)))
    }
}

fn go_on() -> Result<()> {
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}
