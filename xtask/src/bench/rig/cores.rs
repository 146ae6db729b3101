//! Which processor core runs what: the engine under test has one for itself, everything else another.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::console::say;
use crate::process::{guarded, on_path};

/// The calling thread, and what it starts from then on.
const MYSELF: Pid = Pid::from_raw(0);

/// Who runs where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cores {
    /// Of the engine; none where there is only one core, or nothing to pin with.
    engine: Option<usize>,
}

impl Cores {
    /// Takes the last core for the engine and leaves the first to everything else, this process and its clients
    /// included. (The kernel's own work is on the first.)
    pub(super) fn divide() -> Result<Self> {
        let mine = sched_getaffinity(MYSELF).context("cannot ask for the cores")?;
        let cores: Vec<usize> = (0..CpuSet::count())
            .filter(|core| mine.is_set(*core).unwrap_or(false))
            .collect();
        let (Some(first), Some(last)) = (cores.first(), cores.last()) else {
            return Ok(Self { engine: None });
        };
        if first == last || !on_path("taskset") {
            say("one core only, or no taskset: nothing is pinned");
            return Ok(Self { engine: None });
        }
        let mut rest = CpuSet::new();
        rest.set(*first)?;
        sched_setaffinity(MYSELF, &rest).context("cannot pin")?;
        Ok(Self {
            engine: Some(*last),
        })
    }

    /// A command on the engine's core.
    pub(super) fn engine(self, program: impl AsRef<OsStr>) -> Command {
        match self.engine {
            None => guarded(program),
            Some(core) => {
                let mut command = guarded("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
        }
    }
}
