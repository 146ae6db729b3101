//! The engine for browsers in a headless Chromium: one job of calls, and what came of each.
//!
//! `tests/js/engine_in_chromium.mjs` says what a job is; the worker's calls are in `browser-node/worker/worker.js`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::artefacts::build_engine;
use crate::console::{Step, print};
use crate::places::Places;
use crate::process::{capture, guarded};
use crate::setup::{self, Purpose, Tools, chromium};

/// Runs the job of a file and prints what came of it.
pub(crate) fn run(places: &Places, job: &Path) -> Result<()> {
    let tools = setup::setup(places, Purpose::Demo)?;
    let text = fs::read_to_string(job).with_context(|| job.display().to_string())?;
    let job = serde_json::from_str(&text).with_context(|| job.display().to_string())?;
    let results = run_in_chromium(places, &tools, &job)?;
    print(&format!("{results}\n"))?;
    Ok(())
}

/// Builds the engine, makes the calls of a job in a worker, and gives what came of each: `{"results": […]}`.
pub(crate) fn run_in_chromium(places: &Places, tools: &Tools, job: &Value) -> Result<Value> {
    setup::webgpu(places)?;
    if std::env::var_os(crate::BUILT).is_none() {
        build_engine(places, tools)?;
    }
    let chromium = chromium().context("there is no chromium on the search path")?;
    let file = places
        .root
        .join(format!("build/job-{}.json", std::process::id()));
    fs::write(&file, job.to_string())?;
    let mut step = Step::begin("the engine in Chromium");
    let output = capture(
        &mut step,
        guarded(tools.node())
            .arg(places.root.join("tests/js/engine_in_chromium.mjs"))
            .env("HELIOGRAPH_NODE_MODULES", &tools.node_modules)
            .env("HELIOGRAPH_CHROMIUM", &chromium)
            .env("HELIOGRAPH_ENGINE", places.engine())
            .env("HELIOGRAPH_JOB", &file),
    );
    fs::remove_file(&file)?;
    let output = output?;
    step.done_quietly();
    let line = output.lines().last().context("Chromium said nothing")?;
    serde_json::from_str(line).context("what Chromium said is no JSON")
}
