//! `templates`: whether what chat templates must give is still what their reference gives. The expected texts of
//! `crates/chat-format/fixtures` come from Hugging Face's own renderer; this makes them again in a folder of its own and
//! compares.
//!
//! By hand, and no part of `test`: it installs `transformers`, and the results change only with the fixtures.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::console::{Step, say};
use crate::places::Places;
use crate::process::{guarded, run, run_openly};
use crate::setup::{fresh_folder, key_of};

/// Where the fixtures are, from the repository's root.
const FIXTURES: &str = "crates/chat-format/fixtures";

/// What `generate.py` writes; all else is what it reads.
const WRITTEN: [&str; 2] = ["conversations.json", "expected"];

/// Makes the expected texts again and says where they differ.
pub(crate) fn run_all(places: &Places) -> Result<()> {
    let fixtures = places.root.join(FIXTURES);
    let python = python(places, &fixtures.join("requirements.txt"))?;
    let again = places.target.join("templates");
    fresh_folder(&again)?;
    copy(&fixtures, &again)?;
    run_openly(guarded(&python).arg(again.join("generate.py")))?;
    let mut wrong = Vec::new();
    for path in written(&fixtures)?.union(&written(&again)?) {
        let read = |folder: &Path| fs::read(folder.join(path)).ok();
        if read(&fixtures) != read(&again) {
            wrong.push(path.display().to_string());
        }
    }
    if wrong.is_empty() {
        say("what templates must give is what their reference gives");
        return Ok(());
    }
    bail!(
        "not what the reference gives: {}; `diff -r {} {}` shows it",
        wrong.join(", "),
        fixtures.display(),
        again.display()
    )
}

/// A Python with the packages that the fixtures name, kept in the cache.
fn python(places: &Places, requirements: &Path) -> Result<PathBuf> {
    let folder = places
        .cache
        .join("templates")
        .join(key_of(&[requirements])?);
    let python = folder.join("bin/python");
    let mark = folder.join(".complete");
    if mark.is_file() {
        return Ok(python);
    }
    let mut step = Step::begin("transformers, for the reference");
    fresh_folder(&folder)?;
    let venv = run(
        &mut step,
        guarded("python3").args(["-m", "venv"]).arg(&folder),
    );
    venv.context("Debian's package python3-venv makes it work")?;
    run(
        &mut step,
        guarded(&python)
            .args(["-m", "pip", "install", "--disable-pip-version-check"])
            .args(["--no-input", "--progress-bar", "off", "-r"])
            .arg(requirements),
    )?;
    fs::write(&mark, b"").with_context(|| format!("cannot write {}", mark.display()))?;
    step.done();
    Ok(python)
}

/// Copies what is read, and nothing that is to be written.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for path in files(from, Path::new(""))? {
        if is_written(&path) {
            continue;
        }
        let target = to.join(&path);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(from.join(&path), &target)
            .with_context(|| format!("cannot copy {}", path.display()))?;
    }
    Ok(())
}

fn written(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let all = files(folder, Path::new(""))?;
    let written: BTreeSet<PathBuf> = all.into_iter().filter(|path| is_written(path)).collect();
    ensure!(!written.is_empty(), "{} has no results", folder.display());
    Ok(written)
}

fn is_written(path: &Path) -> bool {
    WRITTEN.iter().any(|name| path.starts_with(name))
}

/// All files below a folder, as paths from there.
fn files(root: &Path, below: &Path) -> Result<Vec<PathBuf>> {
    let folder = root.join(below);
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            all.extend(files(root, &path)?);
        } else {
            all.push(path);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_not_copied_to_where_they_are_made_again() {
        let base =
            std::env::temp_dir().join(format!("heliograph-templates-{}", std::process::id()));
        let (from, to) = (base.join("from"), base.join("to"));
        for path in ["generate.py", "expected/a.json", "templates/a.jinja"] {
            let path = from.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "text").unwrap();
        }
        copy(&from, &to).unwrap();
        let mut copied = files(&to, Path::new("")).unwrap();
        copied.sort();
        assert_eq!(
            copied,
            ["generate.py", "templates/a.jinja"].map(PathBuf::from)
        );
        assert!(written(&to).is_err());
        let results = written(&from).unwrap();
        assert_eq!(results, BTreeSet::from([PathBuf::from("expected/a.json")]));
        fs::remove_dir_all(base).unwrap();
    }
}
