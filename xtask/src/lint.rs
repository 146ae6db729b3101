//! `lint`: format, clippy, documentation, spelling, and the project's own rules ([`crate::tidy`]).

use std::process::Command;

use anyhow::{Result, bail};

use crate::artefacts::{cargo, cargo_with};
use crate::clones::claim;
use crate::console::{Step, say};
use crate::places::Places;
use crate::process::{guarded, interrupted, on_path, run, run_openly};
use crate::setup::{Purpose, setup};
use crate::tidy;

/// What compiles natively in the dev profile.
const NATIVE: [&str; 21] = [
    "benches",
    "browser-node",
    "echo",
    "protocol",
    "scheduler",
    "node-session",
    "client-session",
    "openai-api",
    "catalog",
    "chat-format",
    "gguf",
    "gguf-writer",
    "model-files",
    "sampling",
    "simulator",
    "webgpu",
    "webgpu-engine",
    "xtask",
    "tests",
    "edge-relay",
    "operator-cli",
];

/// What runs in the Worker or in a page.
const WASM: [&str; 14] = [
    "browser-node",
    "echo",
    "protocol",
    "scheduler",
    "node-session",
    "client-session",
    "openai-api",
    "catalog",
    "chat-format",
    "gguf",
    "sampling",
    "webgpu-engine",
    "edge-relay",
    "web",
];

/// Runs every check, even after one has failed; or with `bless` only updates what tidy compares.
pub(crate) fn run_all(places: &Places, bless: bool) -> Result<()> {
    if bless {
        return tidy::bless(places);
    }
    let tools = setup(places, Purpose::Lint)?;
    let wasm = ["--release", "--target", "wasm32-unknown-unknown"];
    let checks: [(&str, &dyn Fn() -> Result<()>); 9] = [
        ("tidy", &|| tidy::check(places)),
        ("format", &|| {
            run_openly(cargo(places).args(["fmt", "--all", "--check"]))
        }),
        ("spelling", &|| {
            run_openly(guarded(&tools.typos).current_dir(&places.root))
        }),
        ("clippy", &|| clippy(places, &NATIVE, &["--all-targets"])),
        // In release, since llama.cpp is built only there.
        ("clippy of the rig", &|| {
            clippy(places, &["node-container"], &["--all-targets", "--release"])
        }),
        ("clippy for wasm", &|| clippy(places, &WASM, &wasm)),
        ("fuzz targets", &|| fuzz_targets(places)),
        ("documentation", &|| documentation(places)),
        ("licences", &|| licences(places)),
    ];
    let mut failed = Vec::new();
    for (label, check) in checks {
        let step = Step::begin(label);
        match check() {
            Ok(()) => step.done(),
            Err(error) => {
                step.failed();
                if interrupted() {
                    return Err(error);
                }
                say(&format!("{error:#}"));
                failed.push(label);
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("lint: failed: {}", failed.join(", "));
}

fn clippy(places: &Places, names: &[&str], options: &[&str]) -> Result<()> {
    let _claim = claim(places)?;
    let mut step = Step::begin("clippy");
    let mut command = cargo_with(places, "clippy");
    command.args(options);
    packages(&mut command, names);
    run(&mut step, command.args(["--", "-D", "warnings"]))
}

/// Every link in the documentation leads somewhere.
fn documentation(places: &Places) -> Result<()> {
    let _claim = claim(places)?;
    let mut step = Step::begin("documentation");
    run(
        &mut step,
        packages(&mut cargo_with(places, "doc"), &NATIVE)
            .args(["--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
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
    let _claim = claim(places)?;
    let mut step = Step::begin("fuzz targets");
    run(
        &mut step,
        cargo_with(places, "check")
            .arg("--manifest-path")
            .arg(manifest),
    )
}

/// `deny.toml` needs cargo-deny, which takes minutes to build, so it runs where it is installed.
/// What matters most of it (no unknown source, no second TLS stack) is in tidy.
fn licences(places: &Places) -> Result<()> {
    if !on_path("cargo-deny") {
        say("  licences not checked: `cargo install cargo-deny` once, then lint runs it");
        return Ok(());
    }
    run_openly(cargo(places).args(["deny", "check", "licenses", "bans", "sources"]))
}
