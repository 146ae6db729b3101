//! setup, demo, test, lint: everything the project does to itself. `cargo xtask help` lists the commands.

mod artefacts;
mod bench;
mod chromium;
mod clones;
mod console;
mod demo;
mod http;
mod images;
mod keys;
mod lint;
mod places;
mod process;
mod relay_config;
mod setup;
mod simulate;
mod soak;
mod stages;
mod templates;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use places::Places;
use setup::Purpose;

/// Set for commands that we run when all is built, so that they do not build again: wrangler's build command, and
/// the demos that whole-system tests start.
const BUILT: &str = "HELIOGRAPH_BUILT";

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Everything Heliograph does to itself")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install tools and the demo's model into the user's cache folder
    Setup {
        /// Also what only the tests need: a browser, a graphics adapter in software, a container engine
        #[arg(long)]
        tests: bool,
    },
    /// Build the Worker and the pages (what wrangler deploys)
    Build {
        /// Build a Worker with routes that break it on purpose instead, for tests, apart from what wrangler deploys
        #[arg(long)]
        fault_injection: bool,
    },
    /// Build and lay out in `build/prebuilt` what container images hold
    Prebuilt(images::Options),
    /// Run relay and rigs on this machine
    Demo(demo::Options),
    /// Run all tests
    Test {
        /// Run this stage only
        #[arg(long, value_enum)]
        only: Option<stages::Stage>,
    },
    /// Measure; nothing passes or fails by it
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Make calls of the engine for browsers in a headless Chromium and print what came of them, as JSON
    Chromium {
        /// A file with the calls, as `tests/js/engine_in_chromium.mjs` describes it
        job: std::path::PathBuf,
    },
    /// Kill parts of a real network in mid-answer and judge what users end up with
    Soak(soak::Options),
    /// Run the network's brains in one thread, on virtual time, from seeds
    #[command(disable_help_flag = true)]
    Simulate {
        /// Passed on as they are: `--seeds`, `--first-seed`, `--seed`, `--planted`; see `--help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check format, lints, documentation, spelling and the project's own rules
    Lint {
        /// Write into PROTOCOL.md the hash of the protocol's sources
        #[arg(long)]
        bless: bool,
    },
    /// Make the expected texts of chat templates again with Hugging Face's renderer, and compare
    Templates,
    /// Build, then run wrangler with these arguments
    #[command(disable_help_flag = true)]
    Wrangler {
        /// Passed on as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if process::interrupted() => {
            console::say("interrupted");
            ExitCode::from(130)
        }
        Err(error) => {
            console::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    process::catch_signals()?;
    let places = Places::find()?;
    if std::env::var_os(BUILT).is_none() {
        // Already here, so that the next call at the latest runs this clone's own xtask.
        drop(clones::claim(&places)?);
    }
    match command {
        Command::Setup { tests } => {
            let purpose = if tests { Purpose::Tests } else { Purpose::Demo };
            let tools = setup::setup(&places, purpose)?;
            console::say(&format!("ready: {}", places.cache.display()));
            console::say(&format!("model: {}", tools.model.path.display()));
            Ok(())
        }
        Command::Build { .. } if std::env::var_os(BUILT).is_some() => Ok(()),
        Command::Build { fault_injection } => {
            let tools = setup::setup(&places, Purpose::Demo)?;
            if fault_injection {
                artefacts::build_faulty_worker(&places, &tools)
            } else {
                artefacts::build_worker_and_pages(&places, &tools)
            }
        }
        Command::Prebuilt(options) => images::run(&places, &options),
        Command::Demo(options) => demo::run(&places, &options),
        Command::Test { only } => stages::run(&places, only),
        Command::Bench(bench) => bench::run(&places, &bench),
        Command::Chromium { job } => chromium::run(&places, &job),
        Command::Soak(options) => soak::run(&places, &options),
        Command::Simulate { arguments } => simulate::run(&places, &arguments),
        Command::Lint { bless } => lint::run_all(&places, bless),
        Command::Templates => templates::run_all(&places),
        Command::Wrangler { arguments } => {
            let tools = setup::setup(&places, Purpose::Demo)?;
            artefacts::build_worker_and_pages(&places, &tools)?;
            stages::wrangler(&places, &tools, &arguments)
        }
    }
}
