//! Answers under a hail of kills: real workerd, two real rigs, the real model. Users ask, somebody is killed at a random
//! moment, and what the user ends up with is judged. `cargo xtask soak` runs many rounds, the system tests a few.
//!
//! ```text
//! Subject ─▶ a request ─▶ User (WebSocket, or the openai package) ◀─▶ Scene: relay, two rigs
//!                           │                         Blow ──────────▶   one of them, at a random moment
//!                           └─▶ what came, and when ─▶ judge ─▶ Report: faults, pauses
//! ```

mod blow;
mod judge;
mod perplexity;
mod produced;
mod report;
mod round;
mod scene;
mod subject;
mod user;

use std::time::Instant;

use anyhow::{Context, Result};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

pub use blow::Blow;
pub use report::Report;
pub use subject::Subject;

use round::Round;
use scene::Scene;

/// A round whose answer ended before its blow fell is run again, this often at most for each kill asked for.
const TRIES_PER_KILL: u32 = 4;

/// What is tried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What goes wrong.
    pub blow: Blow,
    /// What is asked.
    pub subject: Subject,
}

/// Every case.
pub const CASES: [Case; 12] = [
    case("rig-killed", Blow::RigKilled, Subject::Prose),
    case("rig-stopped", Blow::RigStopped, Subject::Prose),
    case("relay-killed", Blow::RelayKilled, Subject::Prose),
    case("client-cut", Blow::ClientCut, Subject::Prose),
    case("pool-aborted", Blow::PoolAborted, Subject::Prose),
    case("both-killed", Blow::BothKilled, Subject::Prose),
    case("rig-and-pool", Blow::RigAndPool, Subject::Prose),
    case("schema", Blow::RigKilled, Subject::Schema),
    case("reasoning", Blow::RigKilled, Subject::Reasoning),
    case("emoji", Blow::RigKilled, Subject::Emoji),
    case("stop", Blow::RigKilled, Subject::Stop),
    case("code", Blow::RigKilled, Subject::Code),
];

const fn case(name: &'static str, blow: Blow, subject: Subject) -> Case {
    Case {
        name,
        blow,
        subject,
    }
}

/// The case of this name.
pub fn case_named(name: &str) -> Option<Case> {
    CASES.into_iter().find(|case| case.name == name)
}

/// Runs a case until its blow has fallen so often. `tell` hears of each round. The report says what was wrong; an error
/// is a fault of the machinery.
pub async fn run(case: Case, kills: u32, seed: u64, tell: impl Fn(&str)) -> Result<Report> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut scene = Scene::start(case.blow).await?;
    let mut report = Report::new(case, seed);
    let began = Instant::now();
    for number in 0..kills.saturating_mul(TRIES_PER_KILL) {
        if report.kills == kills {
            break;
        }
        let round = Round::draw(case, number, &mut rng);
        let outcome = round
            .run(&mut scene)
            .await
            .with_context(|| format!("{} round {number}", case.name))?;
        tell(&outcome.line(number));
        report.take(number, outcome);
    }
    report.read_produced(&scene);
    report.judge_likelihood(&scene)?;
    report.took = began.elapsed();
    scene.end()?;
    Ok(report)
}
