//! `simulate`: runs seeds, replays one, or shows that planted bugs are caught.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use simulator::{Mode, Plant, Report, simulate};

/// Seeds after which a planted bug counts as unnoticed.
const PLANTED_SEEDS_MAX: u64 = 600;

/// The network in one thread, on virtual time.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask simulate")]
struct Arguments {
    /// How many seeds to run, each with shrunk timeouts and with those of production
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// Where to begin
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Replay this seed, twice, and print its hash and how it ended
    #[arg(long, conflicts_with_all = ["seeds", "planted"])]
    seed: Option<u64>,
    /// Plant each bug in turn; succeed only if each is caught
    #[arg(long)]
    planted: bool,
    /// How many of the last lines of a failing seed's trace to print
    #[arg(long, default_value_t = 100)]
    lines: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic in a brain is a finding, told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let is_good = match arguments.seed {
        Some(seed) => replay(seed, arguments.lines),
        None if arguments.planted => planted(arguments.first_seed),
        None => run(arguments.first_seed, arguments.seeds, arguments.lines),
    };
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn say(line: &str) {
    // A reader that is gone needs no more lines.
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// Runs one seed in both modes, each twice.
fn replay(seed: u64, lines: usize) -> bool {
    let mut is_good = true;
    for mode in Mode::ALL {
        let once = simulate(seed, mode, None, 0);
        let again = simulate(seed, mode, None, lines);
        say(&format!(
            "seed {seed}, {}, theme {}: every invariant {}; trace hash {:016x} and {:016x}, {} events, {} of {} jobs answered (the others were refused, cancelled or lost by what went wrong)",
            match mode {
                Mode::Quick => "shrunk timeouts",
                Mode::Default => "timeouts of production",
            },
            again.theme,
            if again.violation.is_some() {
                "but one holds"
            } else {
                "holds"
            },
            once.hash,
            again.hash,
            again.events,
            again.completed,
            again.jobs
        ));
        if once.hash != again.hash {
            say("the two runs differ");
            is_good = false;
        }
        is_good &= tell(seed, mode, &again);
    }
    is_good
}

/// Says how a seed ended, if it ended badly.
fn tell(seed: u64, mode: Mode, report: &Report) -> bool {
    let Some(violation) = &report.violation else {
        return true;
    };
    for line in &report.lines {
        say(&format!("  {line}"));
    }
    say(&format!(
        "seed {seed} ({mode:?}, {}) at {} ms: {}: {}",
        report.theme, violation.at, violation.invariant, violation.sentence
    ));
    say(&format!("replay: cargo xtask simulate --seed {seed}"));
    false
}

/// Runs many seeds on all cores, each in one thread.
#[expect(
    clippy::disallowed_methods,
    reason = "how long it took is for people; no seed hears of it"
)]
fn run(first: u64, count: u64, lines: usize) -> bool {
    let begun = Instant::now();
    say(&format!(
        "seeds {first} to {}",
        first + count.saturating_sub(1)
    ));
    let next = AtomicU64::new(0);
    let totals = Mutex::new((0_u64, 0_u64, 0_u64, 0_usize));
    let failed: Mutex<Vec<(u64, Mode)>> = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let seed = first + number;
                    for mode in Mode::ALL {
                        let report = simulate(seed, mode, None, 0);
                        if let Ok(mut totals) = totals.lock() {
                            totals.0 = totals.0.wrapping_add(report.hash);
                            totals.1 += report.events;
                            totals.2 += report.completed;
                            totals.3 += report.jobs;
                        }
                        if report.violation.is_some()
                            && let Ok(mut failed) = failed.lock()
                        {
                            failed.push((seed, mode));
                        }
                    }
                }
            });
        }
    });
    let (hash, events, completed, jobs) = totals.into_inner().unwrap_or_default();
    let mut failed = failed.into_inner().unwrap_or_default();
    failed.sort_by_key(|(seed, mode)| (*seed, *mode == Mode::Default));
    for (seed, mode) in failed.iter().skip(1) {
        let report = simulate(*seed, *mode, None, 0);
        tell(*seed, *mode, &report);
    }
    if let Some((seed, mode)) = failed.first() {
        tell(*seed, *mode, &simulate(*seed, *mode, None, lines));
    }
    say(&format!(
        "{count} seeds, both modes: {events} events, {completed} of {jobs} jobs answered, {} failed, sum of hashes {hash:016x}, {:.1} s",
        failed.len(),
        begun.elapsed().as_secs_f64()
    ));
    failed.is_empty()
}

/// Plants each bug and looks for the first seed that shows it.
fn planted(first: u64) -> bool {
    let mut is_good = true;
    for plant in Plant::ALL {
        let found = (first..first + PLANTED_SEEDS_MAX).find_map(|seed| {
            Mode::ALL.into_iter().find_map(|mode| {
                let violation = simulate(seed, mode, Some(plant), 0).violation?;
                // Without the bug the same seed must hold, or it says nothing about the bug.
                let holds = simulate(seed, mode, None, 0).violation.is_none();
                holds.then_some((seed, mode, violation))
            })
        });
        is_good &= found.is_some();
        say(&match found {
            Some((seed, mode, violation)) => format!(
                "caught    {plant:?}: seed {seed} ({mode:?}), {}: {}",
                violation.invariant, violation.sentence
            ),
            None => format!("UNNOTICED {plant:?}: {PLANTED_SEEDS_MAX} seeds hold"),
        });
    }
    is_good
}
