//! The whole network in one thread: real `scheduler`, real `node-session`s, real `client-session`s, fake engines and a fake
//! network on virtual time, all of it drawn from one seed. What must always hold is checked after every step, by one file for
//! each invariant.
//!
//! ```text
//! seed ─▶ Scenario ─▶ World ── events, one after the other ──▶ Judge: invariants, one file each
//!          who, what,    │ clients ◀─ sockets that break ─▶ relay ◀─ sockets ─▶ nodes ─▶ fake engines
//!          what goes     └─▶ Trace: every event folded into a hash
//!          wrong when
//! ```
//!
//! The same seed is the same run, byte for byte: the trace hash says so. A seed that fails is replayed with
//! `cargo xtask simulate --seed N`.

#![expect(
    clippy::indexing_slicing,
    reason = "a harness: peers, jobs and connections are numbered by itself, and a wrong number must stop it"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an invariant looks at what concerns it; what it passes over is nothing of the wire"
)]

mod engine;
mod invariant;
mod network;
mod observation;
mod planted;
mod scenario;
mod script;
mod shadow;
mod trace;
mod world;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use crate::planted::Plant;

use crate::scenario::Scenario;
use crate::world::World;

/// Milliseconds of the world's clock.
pub type Millis = u64;

/// With which settings the brains run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Shrunk timeouts: more happens in less time.
    Quick,
    /// Those of production.
    Default,
}

impl Mode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Quick, Self::Default];
}

/// What went against an invariant.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// When, in the world's time.
    pub at: Millis,
    /// How.
    pub sentence: String,
}

/// What became of a seed.
#[derive(Debug)]
pub struct Report {
    /// Of everything that happened.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// Answers that came to a good end.
    pub completed: u64,
    /// Jobs asked for.
    pub jobs: usize,
    /// What the seed was about.
    pub theme: String,
    /// What went wrong, if anything did.
    pub violation: Option<Violation>,
    /// The last lines of the trace, where asked for.
    pub lines: Vec<String>,
}

/// Runs one seed to its end, or to the first thing that is wrong.
pub fn simulate(seed: u64, mode: Mode, plant: Option<Plant>, lines_max: usize) -> Report {
    let scenario = Scenario::draw(seed, mode);
    let theme = format!("{:?}", scenario.theme);
    let jobs = scenario.jobs.len();
    let mut world = World::new(seed, scenario, plant, lines_max);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = outcome.unwrap_or_else(|panic| {
        let sentence = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a panic".into());
        Some(Violation {
            invariant: "nothing panics",
            at: world.now,
            sentence,
        })
    });
    Report {
        hash: world.trace.hash(),
        events: world.trace.events(),
        completed: world.judge.completed(),
        jobs,
        theme,
        violation,
        lines: world.trace.into_lines(),
    }
}
