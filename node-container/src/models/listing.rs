//! `rig models`: what of the catalog fits this machine.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use protocol::limits::NODE_SLOTS_MAX;

use crate::engine::embed::Pooling;
use crate::engine::llama::CacheType;

use super::{Room, cache, candidates, catalog, choice, memory};
use crate::config::{CONTEXT_TOKENS_MIN, CacheFlags, cached_conversations};

/// The word that selects this instead of running a node.
pub const COMMAND: &str = "models";

/// Lists the models of the catalog, what each needs on this machine, and whether it fits.
#[derive(Debug, Clone, Parser)]
#[command(name = "rig models", args_override_self = true)]
struct Options {
    #[command(flatten)]
    cache: CacheFlags,
    /// Jobs at once.
    #[arg(long, env = "HELIOGRAPH_SLOTS", value_name = "COUNT", default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(NODE_SLOTS_MAX)))]
    slots: u32,
    /// Tokens of prompt and answer together, for each slot.
    #[arg(long, env = "HELIOGRAPH_CONTEXT", value_name = "TOKENS",
        value_parser = clap::value_parser!(u32).range(i64::from(CONTEXT_TOKENS_MIN)..))]
    context: Option<u32>,
    /// Finished conversations that stay in the cache.
    #[arg(long, env = "HELIOGRAPH_CACHED_CONVERSATIONS", value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(0..=i64::from(NODE_SLOTS_MAX)))]
    cached_conversations: Option<u32>,
    /// What the cache holds.
    #[arg(
        long,
        env = "HELIOGRAPH_CACHE_TYPE",
        value_name = "TYPE",
        value_enum,
        default_value = "f16"
    )]
    cache_type: CacheType,
    /// Whether embeddings of texts are made as well, and how.
    #[arg(
        long,
        env = "HELIOGRAPH_EMBEDDINGS",
        value_name = "POOLING",
        value_enum
    )]
    embeddings: Option<Pooling>,
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
    let room = Room {
        slots: options.slots,
        context_tokens: options.context,
        cached_conversations: cached_conversations(options.cached_conversations, options.slots),
        prompt_batch: None,
        cache_type: options.cache_type,
        has_vectors: options.embeddings.is_some(),
        has_template: false,
        orders: memory.orders(),
    };
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
