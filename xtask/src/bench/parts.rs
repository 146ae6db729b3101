//! Programs that a measurement starts: each with a log, each ended with the measurement.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::console::Step;
use crate::http::{Request, ask};
use crate::process::{self, Running, capture, guarded};

/// How long a program may take to be ready. Python programs take their time.
const START_MAX: Duration = Duration::from_mins(1);

/// How often readiness is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// A folder of one measurement, removed with it.
#[derive(Debug)]
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    /// Makes one below the cache folder.
    pub(super) fn new(cache: &Path) -> Result<Self> {
        let path = cache.join("runs").join(std::process::id().to_string());
        crate::setup::fresh_folder(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A program that runs until it is dropped.
#[derive(Debug)]
pub(super) struct Part {
    running: Running,
    log: PathBuf,
}

impl Part {
    /// Starts a command made by [`guarded`]; what it writes goes into the folder.
    pub(super) fn start(folder: &Path, name: &str, command: &mut Command) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log)?;
        command.stdout(file.try_clone()?).stderr(file);
        Ok(Self {
            running: Running::start(command)?,
            log,
        })
    }

    /// The process id.
    pub(super) fn id(&self) -> u32 {
        self.running.id()
    }

    /// What it wrote.
    pub(super) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until something is true of it.
    pub(super) fn wait_until(
        &mut self,
        what: &str,
        mut is_true: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + START_MAX;
        while !is_true(self) {
            if process::interrupted() {
                bail!("interrupted");
            }
            if let Some(status) = self.running.ended()? {
                bail!("{what}: it ended ({status})\n{}", self.said());
            }
            if Instant::now() > deadline {
                bail!(
                    "{what}: not within {} s\n{}",
                    START_MAX.as_secs(),
                    self.said()
                );
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits until it answers HTTP.
    pub(super) fn wait_for_http(&mut self, port: u16, path: &str) -> Result<()> {
        self.wait_until(path, |_| {
            ask(port, path, &Request::default()).is_ok_and(|response| response.status == 200)
        })
    }
}

/// A port that nobody has.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Runs the load client to its end and reads its figures.
pub(super) fn load(program: &Path, port: u16, arguments: &[String], key: &str) -> Result<Value> {
    let mut step = Step::begin("load");
    let text = capture(
        &mut step,
        guarded(program)
            .args(["--address", &format!("127.0.0.1:{port}")])
            .args(arguments)
            .env("HELIOGRAPH_API_KEY", key),
    )?;
    serde_json::from_str(&text).with_context(|| format!("not figures: {text}"))
}
