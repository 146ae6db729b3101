//! Where the tests' tools are: `cargo xtask test` says it in the environment.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

/// Python, Node and Chromium of the set-up.
#[derive(Debug)]
pub struct Tools {
    python: PathBuf,
    node: PathBuf,
    node_modules: PathBuf,
    chromium: PathBuf,
}

impl Tools {
    /// Finds them.
    pub fn find() -> Result<Self> {
        Ok(Self {
            python: from_environment("HELIOGRAPH_PYTHON")?,
            node: from_environment("HELIOGRAPH_NODE")?,
            node_modules: from_environment("HELIOGRAPH_NODE_MODULES")?,
            chromium: env::var_os("HELIOGRAPH_CHROMIUM")
                .map_or_else(|| "/usr/bin/chromium".into(), PathBuf::from),
        })
    }

    /// Python with the official `openai` package, about to run a script beside the tests.
    pub fn python(&self, script: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(root().join("tests").join(script));
        command
    }

    /// Node with the npm packages of the set-up, about to run a script beside the tests.
    pub fn node(&self, script: &str) -> Command {
        let mut command = Command::new(&self.node);
        command
            .arg(root().join("tests").join(script))
            .env("HELIOGRAPH_NODE_MODULES", &self.node_modules)
            .env("HELIOGRAPH_CHROMIUM", &self.chromium);
        command
    }
}

/// The root of the clone.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// `xtask` with these arguments.
pub fn xtask(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(xtask_program()?);
    command.args(arguments).current_dir(root());
    Ok(command)
}

/// The program that runs these tests, or else the one that cargo built beside them. Never `cargo run`, which does not
/// pass signals on.
pub(crate) fn xtask_program() -> Result<PathBuf> {
    if let Some(xtask) = env::var_os("HELIOGRAPH_XTASK") {
        return Ok(PathBuf::from(xtask));
    }
    env::current_exe()?
        .ancestors()
        .nth(2)
        .map(|folder| folder.join("xtask"))
        .filter(|xtask| xtask.is_file())
        .context("no xtask; run `cargo xtask test --only system`")
}

fn from_environment(name: &str) -> Result<PathBuf> {
    env::var_os(name)
        .map(PathBuf::from)
        .with_context(|| format!("{name} is not set; run `cargo xtask test --only system`"))
}
