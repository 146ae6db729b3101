//! `rig perplexity`: reads answers from standard input and writes how likely a model finds them. For tests.
//!
//! A line in is `{"request": …, "text": "…", "from": 0}`, where `from` may be left out; a line out is
//! `{"tokens": …, "nll": …}`.

use std::ffi::OsString;
use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use crate::engine::llama::LlamaOptions;
use crate::engine::llama::perplexity::{Scorer, with_scorer};

/// The word that selects this instead of running a node.
pub const COMMAND: &str = "perplexity";

/// Judges answers: JSON lines in, JSON lines out.
#[derive(Debug, Parser)]
#[command(name = "rig perplexity")]
struct Options {
    /// The model, a GGUF file.
    #[arg(long, env = "HELIOGRAPH_MODEL_FILE", value_name = "PATH")]
    model_file: PathBuf,

    /// Tokens of conversation and answer together.
    #[arg(long, value_name = "TOKENS")]
    context: Option<u32>,

    /// Threads that compute.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    threads: u32,
}

/// Runs with these arguments, the first of which is its name.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let options = Options::parse_from(arguments);
    let options = LlamaOptions {
        context_tokens: options.context,
        threads: Some(options.threads),
        ..LlamaOptions::new(options.model_file)
    };
    let done = with_scorer(&options, score_lines)
        .map_err(anyhow::Error::from)
        .flatten();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn score_lines(scorer: &mut Scorer<'_>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let given = serde_json::from_str(&line?).context("a line is no question")?;
        let score = scorer.score(&given)?;
        serde_json::to_writer(&mut out, &score)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}
