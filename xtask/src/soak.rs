//! `soak`: parts of a real network are killed in mid-answer, many times, and what users end up with is judged. The rounds
//! are in `tests/src/soak.rs`; this builds everything and starts them.

use anyhow::{Result, bail};

use crate::artefacts::{build_all, build_faulty_worker, cargo_with};
use crate::clones::claim;
use crate::places::Places;
use crate::process::{guarded, run_openly};
use crate::setup::{Purpose, setup};
use crate::stages::variables;

/// What to try out.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// `rig-killed`, `rig-stopped`, `relay-killed`, `client-cut`, `pool-aborted`, `both-killed`,
    /// `rig-and-pool` (together: `blows`),
    /// `schema`, `reasoning`, `emoji`, `stop`, `code` (together: `subjects`), or `all`
    #[arg(required = true)]
    names: Vec<String>,
    /// How often somebody is killed in each [default: 20, for subjects 50]
    #[arg(long)]
    kills: Option<u32>,
    /// Draws requests and moments
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// One object of JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Builds everything, then runs the cases.
pub(crate) fn run(places: &Places, options: &Options) -> Result<()> {
    let tools = setup(places, Purpose::Tests)?;
    if std::env::var_os(crate::BUILT).is_none() {
        build_all(places, &tools)?;
        build_faulty_worker(places, &tools)?;
    }
    let claimed = claim(places)?;
    run_openly(cargo_with(places, "build").args(["-p", "tests", "--bin", "soak"]))?;
    // A copy, since another clone that shares the target folder may replace the file at any time.
    let program = places.root.join("build/soak");
    if program.exists() {
        std::fs::remove_file(&program)?;
    }
    std::fs::copy(places.target.join("debug/soak"), &program)?;
    drop(claimed);
    let mut command = guarded(&program);
    command
        .args(&options.names)
        .args(["--seed", &options.seed.to_string()])
        .current_dir(&places.root)
        .envs(variables(places, &tools)?)
        .env(crate::BUILT, "1");
    if let Some(kills) = options.kills {
        command.args(["--kills", &kills.to_string()]);
    }
    if options.json {
        command.arg("--json");
    }
    if run_openly(&mut command).is_err() {
        bail!("not everything held; it is written above");
    }
    Ok(())
}
