//! `demo`: the whole network on this machine. Builds everything, starts the relay and rigs, says where they are or
//! asks them one question, and ends all it started.

mod network;
mod question;
mod ready;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::artefacts;
use crate::console::say;
use crate::places::Places;
use crate::process;
use crate::setup::{Purpose, setup};
use network::Network;
pub(crate) use network::slots_available;

/// What runs the Worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Via {
    /// The plain runtime, as on an own server.
    Workerd,
    /// `wrangler dev`, which has a proxy in front.
    Wrangler,
}

/// Runs the whole network on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Ask this, print the answer to standard output, and end
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Write addresses, keys and process ids here (JSON) once a rig serves; parts may then be killed from outside
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// The relay's port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 8787)]
    port: u16,
    /// How many rigs to start
    #[arg(long, default_value_t = 1)]
    rigs: u32,
    /// How many chats a rig runs at once
    #[arg(long, default_value_t = 2)]
    slots: u32,
    /// Threads of a rig's model
    #[arg(long, default_value_t = 1)]
    cpu_threads: u32,
    /// What runs the relay
    #[arg(long, value_enum, default_value_t = Via::Workerd)]
    via: Via,
    /// Run a relay that can be broken on purpose (`POST /fault/abort-pool`), for tests; plain runtime only
    #[arg(long, conflicts_with = "via")]
    fault_injection: bool,
    /// Without a word from a node for this long, its answers go on elsewhere
    #[arg(long, value_name = "MS")]
    lease_ms: Option<u32>,
    /// Keep the run's folder (storage and logs)
    #[arg(long)]
    keep: bool,
}

/// Runs the demo to its end.
pub(crate) fn run(places: &Places, options: &Options) -> Result<()> {
    if let Some(path) = &options.ready_file {
        forget(path)?;
    }
    let tools = setup(places, Purpose::Demo)?;
    if std::env::var_os(crate::BUILT).is_none() {
        artefacts::build_all(places, &tools)?;
        if options.fault_injection {
            artefacts::build_faulty_worker(places, &tools)?;
        }
    }
    let mut network = Network::start(places, &tools, options)?;
    let result = network
        .wait_until_serving()
        .and_then(|()| serve(&mut network, options));
    if result.is_err() && !process::interrupted() {
        network.keep_folder();
    }
    if let Some(path) = &options.ready_file {
        // It described what is about to end.
        _ = std::fs::remove_file(path);
    }
    network.end();
    // Being told to stop is how a demo usually ends.
    if process::interrupted() && options.prompt.is_none() {
        return Ok(());
    }
    result
}

/// Removes a ready file that an earlier run left because it was killed: its network is dead.
fn forget(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _gone => Ok(()),
    }
}

fn serve(network: &mut Network, options: &Options) -> Result<()> {
    if let Some(path) = &options.ready_file {
        ready::write(path, network)?;
    }
    if let Some(prompt) = &options.prompt {
        return question::ask(network, prompt);
    }
    say(&network.summary());
    while !process::interrupted() {
        if let Some(complaint) = network.complaint()? {
            // Whoever asked for a ready file drives and kills the parts.
            if options.ready_file.is_none() {
                bail!(complaint);
            }
            say(&complaint);
        }
        thread::sleep(process::POLL);
    }
    say("ending");
    Ok(())
}
