//! `bench scheduler`: what the scheduler costs by itself, in time and memory. The measuring is a benchmark of its crate,
//! always optimized.

use anyhow::Result;

use crate::artefacts::cargo_with;
use crate::places::Places;
use crate::process::run_openly;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// Numbers of nodes
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000])]
    nodes: Vec<u32>,
    /// Jobs with each number of nodes
    #[arg(long, default_value_t = 1_000_000)]
    jobs: u32,
}

/// Measures.
pub(crate) fn run(places: &Places, options: &Options) -> Result<()> {
    let nodes: Vec<String> = options.nodes.iter().map(u32::to_string).collect();
    let mut command = cargo_with(places, "bench");
    command
        .args(["--quiet", "-p", "scheduler", "--bench", "cost", "--"])
        .args(["--nodes", &nodes.join(",")])
        .args(["--jobs", &options.jobs.to_string()]);
    if options.json {
        command.arg("--json");
    }
    run_openly(&mut command)
}
