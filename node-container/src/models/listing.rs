//! `rig models`: what of the catalog fits this machine.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

use super::{RoomFlags, cache, candidates, catalog, choice, memory};
use crate::config::CacheFlags;

/// The word that selects this instead of running a node.
pub const COMMAND: &str = "models";

/// Lists the models of the catalog, what each needs on this machine, and whether it fits.
#[derive(Debug, Clone, Parser)]
#[command(name = "rig models", args_override_self = true)]
struct Options {
    #[command(flatten)]
    cache: CacheFlags,
    #[command(flatten)]
    room: RoomFlags,
}

/// Prints the list; the first argument is its name. 0 unless something cannot be read.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let options = Options::parse_from(arguments);
    match list(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn list(options: &Options) -> anyhow::Result<()> {
    let memory = memory::read()?;
    let catalog = catalog(&options.cache)?;
    let cache = cache(&options.cache)?;
    let room = options.room.room(&memory);
    let candidates = candidates(&catalog, &cache, room);
    let mut out = std::io::stdout().lock();
    for line in choice::table(&candidates, &memory) {
        writeln!(out, "{line}")?;
    }
    let best = choice::best(&candidates, &memory).map_or("none fits", |best| &best.id);
    writeln!(out, "--model auto would run: {best}")?;
    let cached: Vec<&str> = candidates
        .iter()
        .filter(|candidate| candidate.is_cached)
        .map(|candidate| &candidate.id[..])
        .collect();
    let cached = if cached.is_empty() {
        "nothing".to_owned()
    } else {
        cached.join(", ")
    };
    writeln!(out, "in the cache {}: {cached}", cache.display())?;
    out.flush().context("standard output")
}
