//! Builds what only benchmarks run: users, nodes and a backend, and the echo Worker.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::artefacts::{cargo, cargo_with};
use crate::clones::claim;
use crate::console::Step;
use crate::places::Places;
use crate::process::{guarded, run};
use crate::setup::Tools;

/// The folder with `load`, `fake-node` and `fake-backend`.
pub(super) fn programs(places: &Places) -> Result<PathBuf> {
    let built = places.target.join("release");
    if is_built() {
        return Ok(built);
    }
    let _claim = claim(places)?;
    let mut step = Step::begin("fake nodes, fake backend, users");
    run(
        &mut step,
        cargo_with(places, "build").args(["--release", "-p", "benches", "--bins"]),
    )?;
    step.done_quietly();
    Ok(built)
}

/// Whoever starts us has built everything.
fn is_built() -> bool {
    std::env::var_os(crate::BUILT).is_some()
}

/// The folder with the echo, built as the relay is.
pub(super) fn echo(places: &Places, tools: &Tools) -> Result<PathBuf> {
    let folder = places.root.join("benches/echo");
    let built = folder.join("build");
    if is_built() {
        return Ok(built);
    }
    let _claim = claim(places)?;
    let mut step = Step::begin("echo (Worker)");
    let mut command = guarded(&tools.worker_build);
    // The environment that cargo gets elsewhere, or each would undo the other's work.
    for (name, value) in cargo(places).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
        .arg("--release")
        .current_dir(&folder)
        .env("PATH", tools.search_path()?)
        .env("ESBUILD_BIN", &tools.esbuild)
        .env("WASM_OPT_BIN", tools.wasm_opt())
        .env("WASM_BINDGEN_BIN", &tools.wasm_bindgen);
    run(&mut step, &mut command)?;
    step.done_quietly();
    if !built.join("index.js").is_file() {
        bail!("worker-build made no {}", built.display());
    }
    Ok(built)
}
