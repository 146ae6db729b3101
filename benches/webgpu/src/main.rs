//! `webgpu`: our WebGPU engine on this machine's adapter, under a clock and beside the truth. `cargo xtask bench webgpu`
//! runs it; each command prints one line of JSON.
//!
//! ```text
//! rig logits (llama.cpp, weights as 32-bit floats) ──rows──▶ compare ◀──rows── our engine, here
//!                                                                 compare-file ◀── a file ◀── our engine in a browser
//! ```

mod compare;
mod engine;
mod file;
mod floats;
mod native;
mod speed;
mod truth;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use webgpu_engine::kernels::Numbers;
use webgpu_engine::model::Config;
use webgpu_engine::run::Settings;

use engine::{Engine, Recorded, Reference};
use file::GgufFile;
use native::Native;
use truth::Rows;

#[derive(Debug, Parser)]
#[command(name = "webgpu")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes a text's tokens, a JSON array
    Tokens {
        /// The model, a GGUF file
        model: PathBuf,
        /// The text
        text: PathBuf,
        /// Its first so many tokens
        count: usize,
    },
    /// Writes a model once more with its weights as 32-bit floats, unless that file is there
    Floats {
        /// The model, a GGUF file
        model: PathBuf,
        /// What to write
        target: PathBuf,
    },
    /// Compares our engine with the truth
    Compare {
        #[command(flatten)]
        given: Given,
        /// Which of our kernels
        #[arg(long, value_enum)]
        kernels: Kernels,
        /// Tokens whose logits are made in one step; 1 takes the steps of answers instead of those of prompts
        #[arg(long, default_value_t = 32)]
        rows: u32,
        /// Only the first so many tokens
        #[arg(long)]
        first: Option<usize>,
    },
    /// Measures prompts and answers, and what a token costs
    Speed(speed::Options),
    /// Compares logits in a file, as `rig logits` writes them, with the truth
    CompareFile {
        #[command(flatten)]
        given: Given,
        /// The logits
        #[arg(long)]
        found: PathBuf,
    },
}

/// What to compare with.
#[derive(Debug, Args)]
struct Given {
    /// The model, a GGUF file
    #[arg(long)]
    model: PathBuf,
    /// Its tokens, a JSON array
    #[arg(long)]
    tokens: PathBuf,
    /// Their logits, as `rig logits` writes them
    #[arg(long = "truth")]
    logits: PathBuf,
}

/// How products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Kernels {
    /// In 32-bit floats
    F32,
    /// With activations rounded to 8 bits, four products at once
    PackedDot,
    /// On the CPU, by no kernel: to see that the comparison works
    Reference,
}

/// What a comparison prints.
#[derive(Debug, Serialize)]
struct Compared {
    #[serde(flatten)]
    agreement: compare::Agreement,
    adapter: Option<String>,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Tokens { model, text, count } => {
            let text = fs::read_to_string(&text).with_context(|| text.display().to_string())?;
            print(&GgufFile::open(&model)?.tokens(&text, count)?)
        }
        Command::Floats { model, target } => floats::write(&model, &target),
        Command::Compare {
            given,
            kernels,
            rows,
            first,
        } => compare(&given, kernels, rows, first),
        Command::Speed(options) => speed::run(&options),
        Command::CompareFile { given, found } => compare_file(&given, &found),
    }
}

impl Given {
    fn tokens(&self) -> Result<Vec<u32>> {
        read_json(&self.tokens)
    }
}

/// The length of a row of logits.
fn width(file: &GgufFile) -> Result<usize> {
    Ok(usize::try_from(Config::read(&file.header)?.vocabulary)?)
}

fn compare(given: &Given, kernels: Kernels, rows: u32, first: Option<usize>) -> Result<()> {
    let mut file = GgufFile::open(&given.model)?;
    let mut truth = Rows::open(&given.logits, width(&file)?)?;
    let mut tokens = given.tokens()?;
    tokens.truncate(first.unwrap_or(usize::MAX));
    let mut engine = match kernels {
        Kernels::Reference => Box::new(Reference::load(&mut file)?) as Box<dyn Engine>,
        Kernels::F32 | Kernels::PackedDot => {
            let gpu = native::open()?;
            if kernels == Kernels::PackedDot {
                native::check_packed_dot(&gpu)?;
            }
            let settings = Settings {
                context_tokens: Some(u32::try_from(tokens.len())?),
                logit_rows: rows,
                numbers: Some(kernels.numbers()?),
                ..Settings::default()
            };
            Box::new(Native::load(&gpu, &given.model, settings)?)
        }
    };
    let agreement = truth::compare(&mut *engine, &tokens, &mut truth)?;
    print(&Compared {
        agreement,
        adapter: Some(engine.adapter()),
    })
}

impl Kernels {
    fn numbers(self) -> Result<Numbers> {
        match self {
            Self::F32 => Ok(Numbers::Float),
            Self::PackedDot => Ok(Numbers::PackedDot),
            Self::Reference => bail!("the reference has no kernels"),
        }
    }
}

fn compare_file(given: &Given, found: &Path) -> Result<()> {
    let width = width(&GgufFile::open(&given.model)?)?;
    let (mut truth, found) = (Rows::open(&given.logits, width)?, Rows::open(found, width)?);
    let agreement = truth::compare(&mut Recorded(found), &given.tokens()?, &mut truth)?;
    print(&Compared {
        agreement,
        adapter: None,
    })
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}

/// One line, at once.
fn print(value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    Ok(out.flush()?)
}
