//! `test`: every test of the project, in stages from quick to whole-system.

use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result};

use crate::artefacts::{
    build_all, build_faulty_worker, build_heliograph, build_worker_and_pages, cargo_with,
};
use crate::clones::claim;
use crate::console::{Step, say};
use crate::places::Places;
use crate::process::{guarded, run_openly};
use crate::setup::{Purpose, Tools, adapter_environment, chromium, setup};

/// A part of `test` that can be run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Stage {
    /// Unit and property tests of the crates that need no C++ compiler, wasm target or model
    Units,
    /// The rig's tests, with llama.cpp and the real model
    Rig,
    /// The relay's, the pages' and `heliograph`'s tests that run natively
    Edge,
    /// Rig, Worker and pages build, and the Worker is light enough
    Build,
    /// Whole-system tests: real workerd, real rigs, real Chromium
    System,
    /// `wrangler deploy --dry-run`
    Deploy,
}

const ALL: [Stage; 6] = [
    Stage::Units,
    Stage::Rig,
    Stage::Edge,
    Stage::Build,
    Stage::System,
    Stage::Deploy,
];

/// Runs all stages, or one.
pub(crate) fn run(places: &Places, only: Option<Stage>) -> Result<()> {
    let tools = setup(places, Purpose::Tests)?;
    for stage in ALL {
        if only.is_none_or(|only| only == stage) {
            let step = Step::begin(format!("{stage:?} tests").to_lowercase());
            say(&format!("── {}", format!("{stage:?}").to_lowercase()));
            run_stage(places, &tools, stage)?;
            step.done();
        }
    }
    Ok(())
}

fn run_stage(places: &Places, tools: &Tools, stage: Stage) -> Result<()> {
    match stage {
        Stage::Units => {
            let variables: Vec<_> = adapter_environment().into_iter().collect();
            test(places, &variables, &[], &[])
        }
        Stage::Rig => {
            let options = ["--release", "-p", "node-container"];
            test(places, &variables(places, tools)?, &options, &[])
        }
        Stage::Edge => {
            let packages = ["browser-node", "edge-relay", "operator-cli", "web"];
            let packages: Vec<&str> = packages.iter().flat_map(|name| ["-p", name]).collect();
            test(places, &[], &packages, &[])
        }
        Stage::Build => build_all(places, tools),
        Stage::System => {
            build_all(places, tools)?;
            build_faulty_worker(places, tools)?;
            build_heliograph(places)?;
            let mut variables = variables(places, tools)?;
            variables.push((crate::BUILT, "1".into()));
            // Every test starts programs of its own on two cores: one after the other is quicker, and steadier.
            let harness = ["--test-threads=1"];
            test(
                places,
                &variables,
                &["-p", "tests", "--no-fail-fast"],
                &harness,
            )
        }
        Stage::Deploy => {
            build_worker_and_pages(places, tools)?;
            let outdir = places.root.join("build/dry-run");
            let outdir = outdir.display().to_string();
            let words = ["deploy", "--dry-run", "--outdir", &outdir].map(str::to_owned);
            wrangler(places, tools, &words)
        }
    }
}

/// Runs tests with cargo. They are compiled while no other clone may put its own in their place; running them takes too
/// long to keep the others waiting.
fn test(
    places: &Places,
    variables: &[(&str, OsString)],
    options: &[&str],
    harness: &[&str],
) -> Result<()> {
    let command = || {
        let mut command = cargo_with(places, "test");
        command
            .args(options)
            .envs(variables.iter().map(|(name, value)| (name, value)));
        command
    };
    let claim = claim(places)?;
    run_openly(command().arg("--no-run"))?;
    drop(claim);
    run_openly(command().arg("--").args(harness))
}

/// Tells tests where the tools are.
pub(crate) fn variables(places: &Places, tools: &Tools) -> Result<Vec<(&'static str, OsString)>> {
    // A copy, since another clone that shares the target folder may replace the file at any time.
    let xtask = places.root.join("build/xtask");
    fs::create_dir_all(places.root.join("build"))?;
    if xtask.exists() {
        fs::remove_file(&xtask)?;
    }
    fs::copy("/proc/self/exe", &xtask).context("cannot copy xtask")?;
    let chromium = chromium().context("there is no chromium on the search path")?;
    let mut variables = vec![
        ("HELIOGRAPH_XTASK", xtask.into()),
        ("HELIOGRAPH_MODEL_FILE", tools.model.path.clone().into()),
        ("HELIOGRAPH_GEMMA_FILE", tools.test_model.clone().into()),
        ("HELIOGRAPH_NODE", tools.node().into()),
        ("HELIOGRAPH_NODE_MODULES", tools.node_modules.clone().into()),
        ("HELIOGRAPH_PYTHON", tools.python.clone().into()),
        ("HELIOGRAPH_CHROMIUM", chromium.into()),
        ("HELIOGRAPH_ENGINE", places.engine().into()),
    ];
    variables.extend(adapter_environment());
    Ok(variables)
}

/// Runs wrangler on what is built.
pub(crate) fn wrangler(places: &Places, tools: &Tools, arguments: &[String]) -> Result<()> {
    run_openly(
        guarded(tools.node())
            .arg(tools.wrangler())
            .args(arguments)
            .current_dir(&places.root)
            .env("PATH", tools.search_path()?)
            .env("WRANGLER_SEND_METRICS", "false")
            .env(crate::BUILT, "1"),
    )
}
