//! A rig that a test starts by itself: the real program with the real model.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::{MODEL, Network, programs, until};

/// A running rig. Dropping it kills it.
#[derive(Debug)]
pub struct Rig {
    /// Its public name.
    pub name: String,
    child: Child,
    log: PathBuf,
}

impl Rig {
    /// Starts one; it joins when it has loaded its model.
    pub fn start(network: &Network, name: &str, slots: u32) -> Result<Self> {
        Self::start_at(network, &network.socket_url(), name, slots)
    }

    /// Starts one that reaches the relay at another address, such as a [`crate::Tap`]'s.
    pub fn start_at(network: &Network, relay: &str, name: &str, slots: u32) -> Result<Self> {
        Self::start_with(
            network,
            relay,
            name,
            MODEL,
            &["--slots", &slots.to_string()],
        )
    }

    /// Starts one that offers the model's file as `model`, with further arguments.
    pub fn start_with(
        network: &Network,
        relay: &str,
        name: &str,
        model: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let log = network.ready.logs.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let (mark_name, mark) = network.mark();
        let child = programs::guarded(&network.ready.rig_binary, "KILL")
            .args(["--relay", relay, "--model", model, "--model-file"])
            .arg(&network.ready.model_file)
            .args(arguments)
            .args(["--threads", "1", "--name", name])
            .env("HELIOGRAPH_METRICS_PORT", "0")
            .env("HELIOGRAPH_KEY", &network.ready.node_key)
            .env("HELIOGRAPH_LOG_HASHES", "true")
            .env(mark_name, mark)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", network.ready.rig_binary.display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Everything that it has logged.
    pub fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where its log is.
    pub fn log_file(&self) -> PathBuf {
        self.log.clone()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        programs::signal(self.child.id(), signal)
    }

    /// Whether one of its jobs has begun and not ended, as far as its log says.
    pub fn is_busy(&self) -> bool {
        let mut running = 0_usize;
        for line in self.logged().lines().filter(|line| line.contains(" job=")) {
            let says = |word: &str| line.split_whitespace().any(|part| part == word);
            if says("started") {
                running += 1;
            } else if ["finished", "failed", "cancelled"].into_iter().any(says) {
                running = running.saturating_sub(1);
            }
        }
        running > 0
    }

    /// Waits for a line of its log that contains all these words.
    pub async fn says(&self, words: &[&str]) -> Result<String> {
        until(&format!("a line of the rig with {words:?}"), || async {
            let text = self.logged();
            let line = text
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)));
            Ok(line.map(str::to_owned))
        })
        .await
    }

    /// Asks it to drain and waits for its end.
    pub async fn drain(mut self) -> Result<std::process::ExitStatus> {
        programs::signal(self.child.id(), Signal::SIGTERM)?;
        until("the rig ends", || {
            let ended = self.child.try_wait();
            async { Ok(ended?) }
        })
        .await
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill and the wait only reaps it.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
