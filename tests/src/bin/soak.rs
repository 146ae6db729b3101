//! `cargo xtask soak`: kills parts of a real network in mid-answer and judges what users end up with.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tests::soak::{CASES, Case, case_named, run};

const USAGE: &str =
    "soak NAME... [--kills N] [--seed S] [--json]; a NAME is a case, `blows`, `subjects` or `all`";

struct Options {
    cases: Vec<Case>,
    kills: Option<u32>,
    seed: u64,
    json: bool,
}

fn main() -> ExitCode {
    match try_main() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn try_main() -> Result<bool> {
    let options = options()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut reports = Vec::new();
    for case in &options.cases {
        // 20 kills show that a part may die; 50 each what an answer may be in the middle of.
        let usual = if case.subject == tests::soak::Subject::Prose {
            20
        } else {
            50
        };
        let kills = options.kills.unwrap_or(usual);
        note(&format!(
            "── {}: {kills} kills, seed {}",
            case.name, options.seed
        ));
        let report = runtime.block_on(run(*case, kills, options.seed, note))?;
        if !options.json {
            print(&report.text())?;
        }
        reports.push((report, kills));
    }
    if options.json {
        let all: Vec<_> = reports.iter().map(|(report, _)| report.json()).collect();
        print(&format!("{}\n", json!({ "cases": all })))?;
    }
    Ok(reports
        .iter()
        .all(|(report, kills)| report.faults.is_empty() && report.kills == *kills))
}

fn options() -> Result<Options> {
    let mut options = Options {
        cases: Vec::new(),
        kills: None,
        seed: 1,
        json: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            words
                .next()
                .and_then(|word| word.parse::<u32>().ok())
                .context(USAGE)
        };
        match word.as_str() {
            "--kills" => options.kills = Some(number()?),
            "--seed" => options.seed = number()?.into(),
            "--json" => options.json = true,
            "all" => options.cases.extend(CASES),
            "blows" | "subjects" => {
                let blows = word == "blows";
                let is_wanted =
                    |case: &Case| (case.subject == tests::soak::Subject::Prose) == blows;
                options.cases.extend(CASES.into_iter().filter(is_wanted));
            }
            name => options.cases.push(case_named(name).with_context(|| {
                let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
                format!("no case is called {name}; there are {}", names.join(", "))
            })?),
        }
    }
    if options.cases.is_empty() {
        bail!(USAGE);
    }
    Ok(options)
}

/// Progress goes to standard error.
#[expect(
    clippy::print_stderr,
    reason = "a person waits and wants to know how far it is"
)]
fn note(text: &str) {
    eprintln!("{text}");
}

/// Results go to standard output.
fn print(text: &str) -> Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
