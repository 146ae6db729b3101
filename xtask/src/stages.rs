//! `test`: every test of the project, in stages from quick to whole-system.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::artefacts::{build_all, build_worker_and_pages, cargo};
use crate::console::{Step, say};
use crate::places::Places;
use crate::process::{guarded, run_openly};
use crate::setup::{Purpose, Tools, setup};

/// A part of `test` that can be run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Stage {
    /// Unit and property tests of the crates that need no C++ compiler, wasm target or model
    Units,
    /// The rig's tests, with llama.cpp and the real model
    Rig,
    /// The relay's and the pages' tests that run natively
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
        Stage::Units => run_openly(cargo(places).arg("test")),
        Stage::Rig => run_openly(with_tools(&mut cargo(places), places, tools)?.args([
            "test",
            "--release",
            "-p",
            "node-container",
        ])),
        Stage::Edge => run_openly(cargo(places).args(["test", "-p", "edge-relay", "-p", "web"])),
        Stage::Build => build_all(places, tools),
        Stage::System => {
            build_all(places, tools)?;
            // Every test starts programs of its own on two cores: one after the other is quicker, and steadier.
            run_openly(
                with_tools(&mut cargo(places), places, tools)?
                    .env(crate::BUILT, "1")
                    .args(["test", "-p", "tests", "--no-fail-fast", "--"])
                    .arg("--test-threads=1"),
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

/// Tells tests where the tools are.
fn with_tools<'a>(
    command: &'a mut Command,
    places: &Places,
    tools: &Tools,
) -> Result<&'a mut Command> {
    // A copy, since another clone that shares the target folder may replace the file at any time.
    let xtask = places.root.join("build/xtask");
    fs::create_dir_all(places.root.join("build"))?;
    if xtask.exists() {
        fs::remove_file(&xtask)?;
    }
    fs::copy("/proc/self/exe", &xtask).context("cannot copy xtask")?;
    Ok(command
        .env("HELIOGRAPH_XTASK", xtask)
        .env("HELIOGRAPH_MODEL_FILE", &tools.model.path)
        .env("HELIOGRAPH_NODE", tools.node())
        .env("HELIOGRAPH_NODE_MODULES", &tools.node_modules)
        .env("HELIOGRAPH_PYTHON", &tools.python)
        .env("HELIOGRAPH_CHROMIUM", "/usr/bin/chromium"))
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
