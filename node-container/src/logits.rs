//! `rig logits`: writes every logit of a text to standard output, as exact as llama.cpp makes them. For benchmarks.
//!
//! In comes a file with the tokens' ids, a JSON array; out go 32-bit floats, little-endian, a row of the vocabulary's
//! length for each token and nothing between them. Nothing is kept: a reader that is slow makes this wait.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use crate::engine::llama::truth::{Truth, with_truth};

/// The word that selects this instead of running a node.
pub const COMMAND: &str = "logits";

/// Writes logits.
#[derive(Debug, Parser)]
#[command(name = "rig logits")]
struct Options {
    /// The model, a GGUF file. Exact only where its weights are 32-bit floats.
    #[arg(long, env = "HELIOGRAPH_MODEL_FILE", value_name = "PATH")]
    model_file: PathBuf,

    /// The tokens' ids, a JSON array.
    #[arg(long, value_name = "PATH")]
    tokens: PathBuf,

    /// Threads that compute.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    threads: u16,
}

/// Runs with these arguments, the first of which is its name.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match write(&Options::parse_from(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write(options: &Options) -> anyhow::Result<()> {
    let path = options.tokens.display();
    let text = fs::read(&options.tokens).with_context(|| format!("{path}"))?;
    let tokens: Vec<u32> = serde_json::from_slice(&text).with_context(|| format!("{path}"))?;
    let room = u32::try_from(tokens.len()).ok().and_then(NonZeroU32::new);
    let room = room.context("no tokens, or too many")?;
    with_truth(&options.model_file, room, options.threads.into(), |truth| {
        write_rows(truth, &tokens, &mut io::stdout().lock())
    })?
}

fn write_rows(truth: &mut Truth<'_>, tokens: &[u32], out: &mut impl Write) -> anyhow::Result<()> {
    let mut written = Ok(());
    let mut bytes = Vec::new();
    truth.logits(tokens, |row| {
        bytes.clear();
        bytes.extend(row.iter().flat_map(|logit| logit.to_le_bytes()));
        written = out.write_all(&bytes);
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    written.context("nobody reads the logits")?;
    out.flush().context("nobody reads the logits")
}
