//! The engine for WebGPU in a worker of a real Chromium: one job of calls, and what came of each.

use std::env;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::programs::run;
use crate::tools::Tools;

/// What came of one call.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Called {
    /// What it gave, unless it failed.
    pub result: Option<Value>,
    /// Why it failed.
    pub error: Option<Failed>,
    /// What happened before its end.
    pub events: Vec<Value>,
    /// What came of the calls that were made meanwhile.
    pub meanwhile: Vec<Self>,
}

/// Why a call failed.
#[derive(Debug, Clone, serde::Deserialize)]
pub struct Failed {
    /// `AbortError` where it was cancelled.
    pub name: String,
    /// In words.
    pub message: String,
}

/// What the script says.
#[derive(Debug, serde::Deserialize)]
struct Said {
    results: Vec<Called>,
}

impl Called {
    /// What it gave; an error if it failed.
    pub fn result(&self) -> Result<&Value> {
        self.result
            .as_ref()
            .with_context(|| format!("the call failed: {:?}", self.error))
    }
}

/// Makes the calls of a job, as `js/engine_in_chromium.mjs` describes it, and gives what came of each.
pub async fn run_in_chromium(job: &Value) -> Result<Vec<Called>> {
    let engine = env::var_os("HELIOGRAPH_ENGINE")
        .context("HELIOGRAPH_ENGINE is not set; run `cargo xtask test --only system`")?;
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    let name = format!("job-{:016x}.json", u64::from_be_bytes(bytes));
    let file = env::temp_dir().join(name);
    std::fs::write(&file, job.to_string())?;
    let mut command = Tools::find()?.node("js/engine_in_chromium.mjs");
    command
        .env("HELIOGRAPH_ENGINE", engine)
        .env("HELIOGRAPH_JOB", &file);
    let output = run(&mut command).await;
    std::fs::remove_file(&file)?;
    let output = output?;
    output.expect_success("the engine in Chromium")?;
    let line = output.stdout.lines().last().context("it said nothing")?;
    let said: Said = serde_json::from_str(line)?;
    Ok(said.results)
}
