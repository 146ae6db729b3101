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
mod truth;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use webgpu_engine::model::Config;

use engine::{Engine, Recorded, Reference};
use file::GgufFile;
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
    },
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kernels {
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
        Command::Compare { given, kernels } => compare(&given, kernels),
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

fn compare(given: &Given, kernels: Kernels) -> Result<()> {
    let mut file = GgufFile::open(&given.model)?;
    let mut rows = Rows::open(&given.logits, width(&file)?)?;
    let mut engine = match kernels {
        Kernels::Reference => Box::new(Reference::load(&mut file)?) as Box<dyn Engine>,
    };
    let agreement = truth::compare(&mut *engine, &given.tokens()?, &mut rows)?;
    print(&Compared {
        agreement,
        adapter: Some(engine.adapter()),
    })
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
