//! `bench`: measures, and prints what it measured. No figure decides whether anything passes.

mod build;
mod ours;
mod parts;
mod peers;
mod relay;
mod rig;
mod scenario;
mod scheduler;
mod table;
mod webgpu;
mod webgpu_peers;

use std::fs;

use anyhow::Result;

use crate::places::Places;

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    /// Tokens through the real relay, beside other relays and the platform's floor
    Relay(relay::Options),
    /// The engine beside others, alone and behind the relay, with the demo's model
    Rig(rig::Options),
    /// Dispatches, token frames and memory of the scheduler by itself
    Scheduler(scheduler::Options),
    /// Our engine for WebGPU, natively and in Chromium, beside others; with `--truth` its logits beside llama.cpp's
    Webgpu(webgpu::Options),
    /// Engines of other people in headless Chromium, alone
    #[command(hide = true)]
    WebgpuPeers(webgpu_peers::Options),
}

/// Measures.
pub(crate) fn run(places: &Places, bench: &Bench) -> Result<()> {
    match bench {
        Bench::Relay(options) => relay::run(places, options),
        Bench::Rig(options) => rig::run(places, options),
        Bench::Scheduler(options) => scheduler::run(places, options),
        Bench::Webgpu(options) => webgpu::run(places, options),
        Bench::WebgpuPeers(options) => webgpu_peers::run(places, options),
    }
}

/// What it ran on.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    // Not those that this process may use: a measurement may have pinned it.
    let processors = info
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, model)| model.trim());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    format!("{processors} processors ({model}), load {load} at the end")
}
