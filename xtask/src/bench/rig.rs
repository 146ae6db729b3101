//! `bench rig`: our engine beside others, on the same model file, with one thread each, on a core of its own.
//!
//! ```text
//! speed        rig bench | node-llama-cpp | users ──HTTP──▶ llama-server    the same chats, one engine after the other
//! network      users ──HTTP──▶ workerd: our Worker ◀── rig                  beside `rig bench` with the same chats
//! pauses       seven chats stream, a prompt of 4,000 tokens arrives
//! second-turn  a conversation of 3,000 tokens goes on
//! ```
//! Every round goes round all engines, so that whatever else the machine does meets all alike; medians count. Each
//! measurement has a process of its own, which is new.

mod case;
mod cores;
mod engines;
mod network;
mod pauses;
mod server;
mod streams;
mod summary;
mod turns;
// The very file that `rig bench` has, so that all engines are asked the same.
#[path = "../../../node-container/src/bench/words.rs"]
mod words;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::machine;
use super::parts::Folder;
use crate::artefacts;
use crate::console::{print, say};
use crate::places::Places;
use crate::process::interrupted;
use crate::setup::{Purpose, Tools, second_model, setup};
use case::Case;
use cores::Cores;
use engines::{Engine, Peer};
use summary::Results;
use turns::Talker;

/// Threads that compute, of every engine.
const THREADS: u32 = 1;

/// How answers are chosen, by every engine: this, and nothing else.
const TEMPERATURE: f32 = 0.8;

/// What others are made to read before the clock starts. No prompt begins with it: who keeps what was read must not find
/// the template there, since `rig bench` does not find it either.
const WARM_UP: &str = "Once upon a time there was a keeper of a lighthouse, who counted the waves.";

/// Room in a context beside prompt and answer.
const ROOM_TOKENS: u32 = 64;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// These parts only; all of them otherwise
    #[arg(long, value_enum)]
    part: Vec<Part>,
    /// Of the part `speed` these cases only, by their names in JSON; all of them otherwise
    #[arg(long, value_parser = Case::parse)]
    case: Vec<Case>,
    /// Whom to measure beside us; `--peers` alone means nobody
    #[arg(long, value_enum, num_args = 0.., value_delimiter = ',', default_values = ["node-llama-cpp", "llama-server"])]
    peers: Vec<Peer>,
    /// How often everything is run
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// One round of short answers, to see that all of it runs; the figures mean little
    #[arg(long)]
    quick: bool,
}

/// One part of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Tokens per second and times to the first token, beside others
    Speed,
    /// Client, relay and rig, beside the rig alone
    Network,
    /// Pauses of running answers while a long prompt arrives
    Pauses,
    /// The second turn of a long conversation
    SecondTurn,
}

/// Everything that is built and installed.
struct Stage<'a> {
    places: &'a Places,
    tools: &'a Tools,
    cores: Cores,
    folder: PathBuf,
    rig: PathBuf,
    model: &'a Path,
    quick: bool,
}

/// Measures and prints.
pub(crate) fn run(places: &Places, options: &Options) -> Result<()> {
    let tools = setup(places, Purpose::Demo)?;
    if std::env::var_os(crate::BUILT).is_none() {
        artefacts::build_all(places, &tools)?;
    }
    let has = |part| options.part.is_empty() || options.part.contains(&part);
    let engines = engines::install(places, &tools, &options.peers);
    let gemma = if has(Part::SecondTurn) {
        Some(second_model(places)?)
    } else {
        None
    };
    let folder = Folder::new(&places.cache)?;
    let stage = Stage {
        places,
        tools: &tools,
        // After all building, which may use every core.
        cores: Cores::divide()?,
        folder: folder.0.clone(),
        rig: places.rig().join("rig"),
        model: &tools.model.path,
        quick: options.quick,
    };
    let rounds = if options.quick { 1 } else { options.rounds };
    let mut results = Results::default();
    for round in 1..=u64::from(rounds) {
        say(&format!("round {round} of {rounds}"));
        if has(Part::Speed) {
            let cases = match &options.case[..] {
                [] => &Case::ALL[..],
                chosen => chosen,
            };
            stage.speed(cases, &engines, round, &mut results)?;
        }
        if has(Part::Network) {
            go_on()?;
            let pair = network::measure(&stage, round)?;
            say(&format!(
                "  8 chats: the network {:.1} tokens/s, the rig alone {:.1}",
                pair.network.total_tokens_per_s, pair.alone.total_tokens_per_s
            ));
            results.network.push(pair);
        }
        if has(Part::Pauses) {
            stage.pauses(&engines, round, &mut results)?;
        }
        if let Some(gemma) = &gemma {
            stage.second_turns(gemma, round, &mut results)?;
        }
    }
    print(&results.tables())?;
    print(&format!("\n{}\n", machine()))?;
    if options.json {
        print(&format!("{}\n", results.json()))?;
    }
    Ok(())
}

impl Stage<'_> {
    fn speed(
        &self,
        cases: &[Case],
        engines: &[Engine],
        round: u64,
        results: &mut Results,
    ) -> Result<()> {
        for &case in cases {
            for engine in engines {
                go_on()?;
                let figures = engine.measure(self, case, round)?;
                say(&format!(
                    "  {}: {} {:.1} tokens/s, first token {:.0} ms",
                    case.title(),
                    engine.name(),
                    case.rate(&figures),
                    figures.first_token_ms_median
                ));
                let case = results.speed.entry(case).or_default();
                case.entry(engine.name()).or_default().push(figures);
            }
        }
        Ok(())
    }

    fn pauses(&self, engines: &[Engine], round: u64, results: &mut Results) -> Result<()> {
        for engine in engines {
            go_on()?;
            if let Some(pauses) = pauses::measure(self, engine, round)? {
                let rounds = results.pauses.entry(engine.name()).or_default();
                rounds.push(pauses);
            }
        }
        Ok(())
    }

    fn second_turns(&self, gemma: &Path, round: u64, results: &mut Results) -> Result<()> {
        // A base model: it has no template of its own.
        let template = self.places.root.join("benches/gemma.jinja");
        let talkers = [
            Talker {
                name: "smollm2",
                model: self.model,
                template: None,
            },
            Talker {
                name: "gemma3",
                model: gemma,
                template: Some(&template),
            },
        ];
        for talker in talkers {
            go_on()?;
            let turns = turns::measure(self, talker, round)?;
            results.turns.entry(talker.name).or_default().push(turns);
        }
        Ok(())
    }
}

fn go_on() -> Result<()> {
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

/// The number of a question: another in each round, so that nobody has read it before.
const fn seed(round: u64, number: u64) -> u64 {
    round * 100 + number
}

/// What the users of a case ask, as a model reads it.
fn prompts(case: Case, round: u64) -> Vec<String> {
    let number = |user: u32| if case.is_same() { 0 } else { u64::from(user) };
    (0..case.streams())
        .map(|user| streams::prompt(case.prompt_tokens(), seed(round, number(user))))
        .collect()
}
