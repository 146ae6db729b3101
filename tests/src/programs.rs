//! Programs that a test starts: each has an end, and no test leaves one behind.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

/// Set in the environment of everything that a test starts; children inherit it, so that what is left can be found.
pub(crate) const MARK: &str = "HELIOGRAPH_TEST_MARK";

/// The longest that any program of a test runs. The first start may compile the whole project.
const PROGRAM_MAX: Duration = Duration::from_mins(20);

/// A command that the kernel ends when the test's thread does, even one that aborts and drops nothing.
pub(crate) fn guarded(program: impl AsRef<OsStr>, signal: &str) -> std::process::Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if setpriv.exists() {
        let mut command = std::process::Command::new(setpriv);
        command.args(["--pdeathsig", signal]).arg(program);
        command
    } else {
        std::process::Command::new(program)
    }
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Fails with everything the program said unless it ended well.
    pub fn expect_success(&self, what: &str) -> Result<()> {
        ensure!(
            self.status.success(),
            "{what}: {}\n{}\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
        Ok(())
    }
}

/// Runs a program to its end.
pub async fn run(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = command
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let output = tokio::time::timeout(PROGRAM_MAX, child.wait_with_output())
        .await
        .with_context(|| format!("{command:?} does not end"))??;
    Ok(Output {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// What a command and all its descendants can be recognised by.
#[derive(Debug)]
pub struct Traces {
    mark: String,
}

impl Traces {
    /// Of nothing yet.
    pub fn new() -> Result<Self> {
        Ok(Self { mark: mark()? })
    }

    /// Marks a command that has yet to start.
    pub fn mark<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env(MARK, &self.mark)
    }

    /// Fails where one of its processes still runs.
    pub fn expect_none_left(&self) -> Result<()> {
        expect_none_left(&self.mark)
    }
}

/// A new mark.
pub(crate) fn mark() -> Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok(format!("mark-{:016x}", u64::from_be_bytes(bytes)))
}

/// The command lines of all processes that carry a mark.
fn marked(mark: &str) -> Vec<String> {
    let wanted = format!("{MARK}={mark}");
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let environment = |folder: &Path| fs::read(folder.join("environ")).unwrap_or_default();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|folder| {
            environment(folder)
                .split(|byte| *byte == 0)
                .any(|variable| variable == wanted.as_bytes())
        })
        .map(|folder| {
            let words = fs::read(folder.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&words).replace('\0', " ");
            format!("{} {line}", folder.display())
        })
        .collect()
}

/// Waits until no process carries a mark.
pub(crate) fn expect_none_left(mark: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left = marked(mark);
        if left.is_empty() {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "processes are left:\n{}",
            left.join("\n")
        );
        // The kernel takes a moment to clear up after a kill, and tells only parents.
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends a signal; a process that has ended is no fault.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?);
    match kill(pid, signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
