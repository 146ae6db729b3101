//! The native program, `benches/webgpu`: what it says is one line of JSON.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::console::Step;
use crate::process::{capture, guarded};
use crate::setup::adapter_environment;

/// The program and the adapter that it is to use.
#[derive(Debug)]
pub(super) struct Native {
    program: PathBuf,
    any_adapter: bool,
}

impl Native {
    pub(super) const fn new(program: PathBuf, any_adapter: bool) -> Self {
        Self {
            program,
            any_adapter,
        }
    }

    /// Runs one of its commands.
    pub(super) fn run<S: AsRef<OsStr>>(&self, title: &str, arguments: &[S]) -> Result<String> {
        let mut command = guarded(&self.program);
        command.args(arguments);
        if !self.any_adapter {
            command.envs(adapter_environment());
        }
        let mut step = Step::begin(title);
        let text = capture(&mut step, &mut command)?;
        step.done_quietly();
        Ok(text)
    }

    /// What it says.
    pub(super) fn ask<S: AsRef<OsStr>>(&self, title: &str, arguments: &[S]) -> Result<Value> {
        let text = self.run(title, arguments)?;
        let line = text.lines().last().context("it said nothing")?;
        serde_json::from_str(line).with_context(|| format!("no JSON: {line}"))
    }

    /// The first tokens of the benchmark's text, as a model reads it: in a file, and as numbers.
    pub(super) fn tokens(
        &self,
        (model, text): (&Path, &Path),
        count: u32,
        to: &Path,
    ) -> Result<Vec<u32>> {
        let count = count.to_string();
        let arguments = [
            OsStr::new("tokens"),
            model.as_os_str(),
            text.as_os_str(),
            OsStr::new(&count),
        ];
        let line = self.run("tokens", &arguments)?;
        std::fs::write(to, &line)?;
        serde_json::from_str(&line).context("no tokens")
    }
}
