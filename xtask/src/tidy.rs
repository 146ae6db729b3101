//! The project's own rules, those that no ready-made lint knows. Each complaint says what to do instead, and why.

mod arrows;
mod sources;
mod specification;
mod supply;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::artefacts::cargo_with;
use crate::console::{Step, say};
use crate::places::Places;
use crate::process::capture;

/// Folders that hold no source of ours.
const SKIPPED: [&str; 6] = [
    "target",
    "build",
    "node_modules",
    ".git",
    ".wrangler",
    "corpus",
];

/// Checks all rules and fails with every complaint.
pub(crate) fn check(places: &Places) -> Result<()> {
    let mut complaints = Vec::new();
    let mut step = Step::begin("cargo metadata");
    let metadata = capture(
        &mut step,
        cargo_with(places, "metadata").args(["--format-version", "1", "--no-deps"]),
    )?;
    complaints.extend(arrows::complaints(&metadata)?);
    for path in rust_files(&places.root)? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.strip_prefix(&places.root)?.to_string_lossy();
        complaints.extend(sources::complaints(&name, &text));
    }
    complaints.extend(specification::complaint(places)?);
    let lock = fs::read_to_string(places.root.join("Cargo.lock"))?;
    complaints.extend(supply::complaints(&lock)?);
    if complaints.is_empty() {
        return Ok(());
    }
    for complaint in &complaints {
        say(&format!("  {complaint}"));
    }
    bail!("tidy: {} complaint(s)", complaints.len());
}

/// Writes what tidy compares, after somebody has looked at what changed.
pub(crate) fn bless(places: &Places) -> Result<()> {
    specification::bless(places)
}

/// Every Rust file of the clone, sorted.
fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if !SKIPPED.contains(&name.as_ref()) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
