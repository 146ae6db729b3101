//! Relays that die without a word and come back, at the same address and with the same storage.

use std::fs::File;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::{Network, programs, until};

/// A relay that a test started anew. Dropping it kills it, so drop it before its network.
#[derive(Debug)]
pub struct Relay(Child);

impl Network {
    /// Kills the relay as a power cut would.
    pub fn kill_relay(&self) -> Result<()> {
        let pid = self.ready.pids.get("relay").context("no relay")?;
        programs::signal(*pid, Signal::SIGKILL)
    }

    /// Starts the relay again after [`Self::kill_relay`] and waits until it answers.
    pub async fn start_relay(&self, name: &str) -> Result<Relay> {
        let log = File::create(self.ready.logs.join(format!("{name}.log")))?;
        let (program, arguments) = self
            .ready
            .relay_command
            .split_first()
            .context("no relay_command in the ready file")?;
        let (mark_name, mark) = self.mark();
        let child = programs::guarded(program, "KILL")
            .args(arguments)
            .env(mark_name, mark)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let relay = Relay(child);
        let api = self.api()?;
        until("the relay answers again", || async {
            Ok(api.model(crate::MODEL).await.ok().map(drop))
        })
        .await?;
        Ok(relay)
    }
}

impl Relay {
    /// Kills it, too.
    pub fn kill(self) {}
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill and the wait only reaps it.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
