//! `heliograph` while it runs: what it says line by line, and being stopped in the middle.

use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::{Engine, within};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

/// The program.
pub(crate) struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts it, with `--json`.
    pub(crate) fn start(engine: &Engine, arguments: &[&str]) -> Result<Self> {
        let mut command = engine.heliograph(arguments);
        let mut child = command.arg("--json").stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        Ok(Self {
            child,
            lines: BufReader::new(stdout).lines(),
        })
    }

    /// What it says next; nothing once it has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>> {
        let line = within("a line", async { Ok(self.lines.next_line().await?) }).await?;
        Ok(line.map(|line| serde_json::from_str(&line)).transpose()?)
    }

    /// Waits for an event of that name.
    pub(crate) async fn event(&mut self, name: &str) -> Result<Value> {
        let mut said = Vec::new();
        while let Some(line) = self.next().await? {
            if line["event"] == name {
                return Ok(line);
            }
            said.push(line);
        }
        bail!("it ended without {name}: {said:?}")
    }

    /// The rest of what it says, and how it ends.
    pub(crate) async fn end(mut self) -> Result<(Vec<Value>, ExitStatus)> {
        let mut said = Vec::new();
        while let Some(line) = self.next().await? {
            said.push(line);
        }
        let status = within("its end", async { Ok(self.child.wait().await?) }).await?;
        Ok((said, status))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        tests::signal(self.child.id().context("it has ended")?, signal)
    }
}
