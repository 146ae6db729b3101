//! A network of its own for a test: `xtask demo` starts it, the ready file says where everything is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde::Deserialize;

use crate::api::Api;
use crate::programs::{self, MARK};
use crate::{MODEL, tools, until};

/// The first start compiles the whole project where nothing is built yet.
const START_MAX: Duration = Duration::from_mins(20);

/// `demo` gives each part 5 s to end by itself, one after the other.
const END_MAX: Duration = Duration::from_mins(1);

/// How much of each log is shown after a failure.
const TAIL_LINES: usize = 30;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// What `demo --ready-file` says.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// The relay's base URL, `http://127.0.0.1:…`.
    pub relay: String,
    /// A key of the API.
    pub api_key: String,
    /// A key of a node.
    pub node_key: String,
    /// Where the relay keeps its storage.
    pub persist: PathBuf,
    /// Where everybody's output goes.
    pub logs: PathBuf,
    /// Process ids by name.
    pub pids: BTreeMap<String, u32>,
    /// The rig's program.
    pub rig_binary: PathBuf,
    /// How the relay was started.
    pub relay_command: Vec<String>,
    /// The model's weights.
    pub model_file: PathBuf,
}

/// A running network. Dropping it ends it and checks that no process is left.
#[derive(Debug)]
pub struct Network {
    /// Where everything is.
    pub ready: Ready,
    demo: Child,
    folder: PathBuf,
    mark: String,
    ended: bool,
}

impl Network {
    /// A relay without rigs: tests start their own ([`crate::Rig`]).
    pub async fn relay_only() -> Result<Self> {
        Self::start(&["--rigs", "0"]).await
    }

    /// A relay with one rig of two slots, as `demo` starts them.
    pub async fn with_rig() -> Result<Self> {
        Self::start(&["--rigs", "1", "--slots", "2"]).await
    }

    /// A relay without rigs whose pool a test can end ([`Self::abort_pool`]).
    pub async fn with_faults() -> Result<Self> {
        Self::start(&["--rigs", "0", "--fault-injection"]).await
    }

    /// `demo` with these arguments beside a ready file and a free port.
    pub async fn start(arguments: &[&str]) -> Result<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("heliograph-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let ready_file = folder.join("ready.json");
        let mark = programs::mark()?;
        let log = File::create(folder.join("demo.log"))?;
        // Not one of tokio's children: its runtime is gone when a test's last values are dropped.
        let mut demo = programs::guarded(tools::xtask_program()?, "TERM")
            .args(["demo", "--port", "0", "--ready-file"])
            .arg(&ready_file)
            .args(arguments)
            .current_dir(tools::root())
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start xtask")?;
        let ready = match wait_for_ready(&mut demo, &ready_file, &folder).await {
            Ok(ready) => ready,
            Err(error) => {
                programs::signal(demo.id(), Signal::SIGTERM)?;
                demo.wait()?;
                return Err(error);
            }
        };
        Ok(Self {
            ready,
            demo,
            folder,
            mark,
            ended: false,
        })
    }

    /// The relay's WebSocket base URL.
    pub fn socket_url(&self) -> String {
        self.ready.relay.replacen("http", "ws", 1)
    }

    /// The HTTP API with the right key.
    pub fn api(&self) -> Result<Api> {
        Api::new(&self.ready.relay, Some(&self.ready.api_key))
    }

    /// Ends the pool, and with it its memory and every socket to it, while HTTP requests and the process live on. Works
    /// with [`Self::with_faults`] only.
    pub async fn abort_pool(&self) -> Result<()> {
        self.fault("abort-pool").await.map(drop)
    }

    /// Tells one life of the pool from the next: its memory began then. Works with [`Self::with_faults`] only.
    pub async fn pool_since(&self) -> Result<String> {
        self.fault("pool-since").await
    }

    async fn fault(&self, name: &str) -> Result<String> {
        let url = format!("{}/fault/{name}", self.ready.relay);
        let answer = reqwest::Client::new().post(url).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// Waits until this many slots for the demo's model are free.
    pub async fn free_slots(&self, wanted: u64) -> Result<()> {
        self.free_slots_of(MODEL, wanted).await
    }

    /// Waits until this many slots for a model are free.
    pub async fn free_slots_of(&self, model: &str, wanted: u64) -> Result<()> {
        let api = self.api()?;
        until(&format!("{wanted} free slots"), || async {
            let model = api.model(model).await?;
            let free = model
                .get("slots_free")
                .and_then(serde_json::Value::as_u64)
                .context("no slots_free in /v1/models")?;
            Ok((free == wanted).then_some(()))
        })
        .await
    }

    /// Marks a command, so that what is left of it can be found.
    pub(crate) fn mark(&self) -> (&'static str, &str) {
        (MARK, &self.mark)
    }

    /// Ends it as Ctrl-C or a supervisor would; it must leave no process and report success.
    pub fn end(mut self) -> Result<()> {
        self.end_by(Signal::SIGTERM)
    }

    /// Kills `demo` with no chance to clear up; the kernel must take everything else with it.
    pub fn kill(mut self) -> Result<()> {
        self.end_by(Signal::SIGKILL)
    }

    fn end_by(&mut self, signal: Signal) -> Result<()> {
        self.ended = true;
        programs::signal(self.demo.id(), signal)?;
        let deadline = Instant::now() + END_MAX;
        let status = loop {
            if let Some(status) = self.demo.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                self.demo.kill()?;
                self.demo.wait()?;
                bail!(
                    "demo did not end within {} s of {signal}",
                    END_MAX.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        programs::expect_none_left(&self.mark)?;
        ensure!(
            status.success() || signal == Signal::SIGKILL,
            "demo ended with {status} after {signal}"
        );
        Ok(())
    }

    /// The ends of all logs, for the reader of a failure.
    fn tails(&self) -> String {
        let mut text = tail(&self.folder.join("demo.log"));
        for entry in fs::read_dir(&self.ready.logs)
            .into_iter()
            .flatten()
            .flatten()
        {
            text.push_str(&tail(&entry.path()));
        }
        text
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The test runner shows this only if the test fails, which it may do by an error that nobody sees here.
        report(&self.tails());
        let failing = std::thread::panicking();
        if !self.ended {
            let ended = self.end_by(Signal::SIGTERM);
            // A second panic would abort and hide the first.
            assert!(failing || ended.is_ok(), "{ended:?}");
        }
        _ = fs::remove_dir_all(&self.folder);
    }
}

/// Standard error is where the test runner shows what a failed test said.
#[expect(clippy::print_stderr, reason = "a failed test explains itself there")]
fn report(text: &str) {
    eprintln!("{text}");
}

async fn wait_for_ready(demo: &mut Child, file: &Path, folder: &Path) -> Result<Ready> {
    let deadline = Instant::now() + START_MAX;
    while Instant::now() < deadline {
        if let Ok(text) = fs::read_to_string(file) {
            return serde_json::from_str(&text).context("the ready file is not as agreed");
        }
        if let Some(status) = demo.try_wait()? {
            bail!("demo ended ({status})\n{}", tail(&folder.join("demo.log")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("no ready file\n{}", tail(&folder.join("demo.log")))
}

fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    let end = lines.get(from..).unwrap_or_default().join("\n");
    format!("── {}\n{end}\n", path.display())
}
