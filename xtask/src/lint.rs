//! `lint`: format, clippy, documentation, spelling, and the project's own rules ([`crate::tidy`]).

use std::process::Command;

use anyhow::Result;

use crate::artefacts::cargo;
use crate::console::{Step, say};
use crate::places::Places;
use crate::process::{guarded, on_path, run, run_openly};
use crate::setup::{Purpose, setup};
use crate::tidy;

/// What compiles natively in the dev profile.
const NATIVE: [&str; 9] = [
    "protocol",
    "scheduler",
    "node-session",
    "client-session",
    "openai-api",
    "catalog",
    "xtask",
    "tests",
    "edge-relay",
];

/// What runs in the Worker or in a page.
const WASM: [&str; 8] = [
    "protocol",
    "scheduler",
    "node-session",
    "client-session",
    "openai-api",
    "catalog",
    "edge-relay",
    "web",
];

/// Runs every check, or with `bless` only updates what tidy compares.
pub(crate) fn run_all(places: &Places, bless: bool) -> Result<()> {
    if bless {
        return tidy::bless(places);
    }
    let tools = setup(places, Purpose::Demo)?;
    check("tidy", || tidy::check(places))?;
    check("format", || {
        run_openly(cargo(places).args(["fmt", "--all", "--check"]))
    })?;
    check("spelling", || {
        run_openly(guarded(&tools.typos).current_dir(&places.root))
    })?;
    clippy(places, "clippy", &NATIVE, &["--all-targets"])?;
    // In release, since llama.cpp is built only there.
    clippy(
        places,
        "clippy (rig)",
        &["node-container"],
        &["--all-targets", "--release"],
    )?;
    let wasm = ["--release", "--target", "wasm32-unknown-unknown"];
    clippy(places, "clippy (wasm)", &WASM, &wasm)?;
    fuzz_targets(places)?;
    let mut step = Step::begin("documentation");
    run(
        &mut step,
        packages(&mut cargo(places), &NATIVE)
            .args(["doc", "--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    step.done();
    licences(places)
}

fn check(label: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let step = Step::begin(label);
    match work() {
        Ok(()) => step.done(),
        Err(error) => {
            step.failed();
            return Err(error);
        }
    }
    Ok(())
}

fn clippy(places: &Places, label: &str, names: &[&str], options: &[&str]) -> Result<()> {
    let mut step = Step::begin(label);
    let mut command = cargo(places);
    command.arg("clippy").args(options);
    packages(&mut command, names);
    run(&mut step, command.args(["--", "-D", "warnings"]))?;
    step.done();
    Ok(())
}

fn packages<'a>(command: &'a mut Command, names: &[&str]) -> &'a mut Command {
    for name in names {
        command.args(["-p", name]);
    }
    command
}

/// The fuzz targets are a workspace of their own, so nothing else would notice that they no longer compile.
fn fuzz_targets(places: &Places) -> Result<()> {
    let manifest = places.root.join("fuzz/Cargo.toml");
    if !manifest.is_file() {
        return Ok(());
    }
    let mut step = Step::begin("fuzz targets");
    run(
        &mut step,
        cargo(places)
            .args(["check", "--manifest-path"])
            .arg(manifest),
    )?;
    step.done();
    Ok(())
}

/// `deny.toml` needs cargo-deny, which takes minutes to build, so it runs where it is installed.
/// What matters most of it (no unknown source, no second TLS stack) is in tidy.
fn licences(places: &Places) -> Result<()> {
    if !on_path("cargo-deny") {
        say("  licences not checked: `cargo install cargo-deny` once, then lint runs it");
        return Ok(());
    }
    check("licences", || {
        run_openly(cargo(places).args(["deny", "check", "licenses", "bans", "sources"]))
    })
}
