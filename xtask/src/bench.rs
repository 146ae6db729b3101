//! `bench`: measures, and prints what it measured. No figure decides whether anything passes.

mod build;
mod parts;
mod peers;
mod relay;
mod scenario;
mod scheduler;
mod table;

use anyhow::Result;

use crate::places::Places;

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    /// Tokens through the real relay, beside other relays and the platform's floor
    Relay(relay::Options),
    /// Dispatches, token frames and memory of the scheduler by itself
    Scheduler(scheduler::Options),
}

/// Measures.
pub(crate) fn run(places: &Places, bench: &Bench) -> Result<()> {
    match bench {
        Bench::Relay(options) => relay::run(places, options),
        Bench::Scheduler(options) => scheduler::run(places, options),
    }
}
