//! Starting other programs so that none outlives us: each in its own process group, each told by the kernel
//! to die when xtask dies (even by `kill -9`), and every wait ends early when somebody asks xtask to stop.

mod output;

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::console::Step;
use output::{Output, read_lines};

/// How often a wait looks for an interrupt.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// What a program gets between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on Ctrl-C, SIGTERM and a closed terminal set a flag instead of killing xtask,
/// so that it can end what it started. That takes a few seconds at most, so a second signal changes nothing
/// (`timeout` always sends two).
pub(crate) fn catch_signals() -> Result<()> {
    let flag = Arc::clone(INTERRUPTED.get_or_init(Arc::default));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(())
}

/// Whether somebody asked xtask to stop.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED
        .get()
        .is_some_and(|flag| flag.load(Ordering::SeqCst))
}

/// A command that dies with xtask. `setpriv` (util-linux) sets the kernel's parent-death signal and then becomes
/// the program, so the process id is the program's own.
pub(crate) fn guarded(program: impl AsRef<OsStr>) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    let mut command = if setpriv.exists() {
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.process_group(0).stdin(Stdio::null());
    command
}

/// A command that outlives xtask, and that Ctrl-C in the terminal does not reach. For package managers only: one that
/// is killed halfway leaves the machine broken.
pub(crate) fn unguarded(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.process_group(0).stdin(Stdio::null());
    command
}

/// Ends the whole process group when it is told to end itself.
const GROUP_GUARD: &str =
    "trap 'trap \"\" TERM; kill -TERM 0; wait; kill -KILL 0' TERM; \"$@\" & wait $!";

/// Like [`guarded`], for a program that starts others and leaves them behind when it is killed, as wrangler does.
/// A shell stands in front; the process id is the shell's.
pub(crate) fn guarded_with_children(program: impl AsRef<OsStr>) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    let mut command = if setpriv.exists() {
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "TERM", "sh"]);
        command
    } else {
        Command::new("sh")
    };
    command.args(["-c", GROUP_GUARD, "guard"]).arg(program);
    command.process_group(0).stdin(Stdio::null());
    command
}

/// What becomes of a step when somebody asks xtask to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupt {
    /// It ends at once.
    Ends,
    /// It is finished first.
    Waits,
}

/// A running program and everything in its process group. Dropping it kills the group.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    group: Pid,
    interrupt: Interrupt,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Starts a command made by [`guarded`].
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", describe(command)))?;
        let group = Pid::from_raw(i32::try_from(child.id())?);
        Ok(Self {
            child,
            group,
            interrupt: Interrupt::Ends,
            ended: None,
        })
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, once it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Asks the group to end.
    pub(crate) fn ask_to_end(&mut self) {
        // It may be gone already.
        _ = killpg(self.group, Signal::SIGTERM);
    }

    /// Waits for the end that was asked for, then insists.
    pub(crate) fn end(mut self) {
        self.ask_to_end();
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if matches!(self.ended(), Ok(Some(_)) | Err(_)) {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        // Drop kills what is left of the group.
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.interrupt == Interrupt::Ends {
            _ = killpg(self.group, Signal::SIGKILL);
        }
        _ = self.child.wait();
    }
}

/// Runs a step to its end, showing the last line it says. Fails with its last lines.
pub(crate) fn run(step: &mut Step, command: &mut Command) -> Result<()> {
    capture(step, command).map(drop)
}

/// Runs a step made by [`unguarded`] to its end, even if somebody asks xtask to stop meanwhile.
pub(crate) fn run_unbroken(step: &mut Step, command: &mut Command) -> Result<()> {
    follow(step, command, Interrupt::Waits)?;
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

/// Like [`run`], and returns what the step wrote to standard output.
pub(crate) fn capture(step: &mut Step, command: &mut Command) -> Result<String> {
    follow(step, command, Interrupt::Ends)
}

fn follow(step: &mut Step, command: &mut Command, interrupt: Interrupt) -> Result<String> {
    let what = describe(command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(command)?;
    running.interrupt = interrupt;
    let (sender, lines) = mpsc::channel();
    if let Some(out) = running.child.stdout.take() {
        read_lines(out, true, sender.clone());
    }
    if let Some(err) = running.child.stderr.take() {
        read_lines(err, false, sender.clone());
    }
    drop(sender);
    let mut output = Output::default();
    let mut told = false;
    let status = loop {
        match lines.recv_timeout(POLL) {
            Ok(line) => {
                step.heard(&line.text);
                output.take(line);
                if !interrupted() {
                    continue;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(POLL),
        }
        step.tick();
        match interrupt {
            Interrupt::Ends => stop_if_interrupted(&mut running)?,
            Interrupt::Waits if interrupted() && !told => {
                told = true;
                step.remark(&format!("stopping as soon as `{what}` has finished"));
            }
            Interrupt::Waits => {}
        }
        if let Some(status) = running.ended()? {
            break status;
        }
    };
    output.drain(&lines, output::LAST_WORDS_MAX);
    if !status.success() {
        bail!("`{what}` failed ({status}):\n{}", output.tail.join("\n"));
    }
    Ok(output.result)
}

/// Runs a command whose output goes straight to the terminal.
pub(crate) fn run_openly(command: &mut Command) -> Result<()> {
    let what = describe(command);
    let mut running = Running::start(command)?;
    let status = loop {
        stop_if_interrupted(&mut running)?;
        if let Some(status) = running.ended()? {
            break status;
        }
        thread::sleep(POLL);
    };
    if !status.success() {
        bail!("`{what}` failed ({status})");
    }
    Ok(())
}

/// Whether a program exists on the search path.
pub(crate) fn on_path(program: &str) -> bool {
    find_on_path(program).is_some()
}

/// Where a program is on the search path.
pub(crate) fn find_on_path(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

fn stop_if_interrupted(running: &mut Running) -> Result<()> {
    if interrupted() {
        running.ask_to_end();
        bail!("interrupted");
    }
    Ok(())
}

/// The command as a person would type it, without the guard in front.
fn describe(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    let skip = if words.first().is_some_and(|word| word.ends_with("/setpriv")) {
        3
    } else {
        0
    };
    words.get(skip..).unwrap_or_default().join(" ")
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _};

    use super::*;

    #[test]
    fn a_step_returns_what_it_wrote() {
        let mut step = Step::begin("echo");
        let out = capture(&mut step, guarded("sh").args(["-c", "echo one; echo two"])).unwrap();
        assert_eq!(out, "one\ntwo\n");
    }

    #[test]
    fn a_failed_step_tells_its_last_lines_and_its_command() {
        let mut step = Step::begin("fail");
        let error = run(
            &mut step,
            guarded("sh").args(["-c", "echo why it broke >&2; exit 3"]),
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("why it broke"), "{error}");
        assert!(error.starts_with("`sh -c"), "{error}");
    }

    #[test]
    fn dropping_a_running_program_ends_its_whole_group() {
        let mut command = guarded("sh");
        command.args(["-c", "sleep 600 & echo $!; wait"]);
        command.stdout(Stdio::piped());
        let mut running = Running::start(&mut command).unwrap();
        let mut out = BufReader::new(running.child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        drop(running);
        // The pipe closes only when the last process of the group is gone.
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert!(!line.trim().is_empty());
    }
}
