//! `up rig --native`: the program itself, without Docker. No container on a Mac reaches its graphics card, so there the
//! rig has to be built with the feature `metal` and run like this. On macOS this has not been tried yet.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::cli::RigOptions;
use crate::secret::Secret;
use crate::settings::KEY;

/// Becomes the rig: it runs in this terminal, drains on Ctrl-C, and leaves nothing behind.
pub(crate) fn run(options: &RigOptions, relay: &str, key: &Secret) -> Result<()> {
    let beside = env::current_exe().ok();
    let path = env::var_os("PATH").unwrap_or_default();
    let program = program(
        options.program.as_deref(),
        beside.as_deref(),
        &env::split_paths(&path).collect::<Vec<_>>(),
    )?;
    let mut command = command(options, &program, relay, key)?;
    become_it(&mut command).with_context(|| format!("cannot start {}", program.display()))
}

fn command(options: &RigOptions, program: &Path, relay: &str, key: &Secret) -> Result<Command> {
    let docker_only = [
        ("--network", options.network.is_some()),
        ("--memory", options.memory.is_some()),
        ("--cpus", options.cpus.is_some()),
        ("--gpu", options.image.gpu.is_some()),
        ("--image", options.image.image.is_some()),
        ("--pull", options.pull),
    ];
    if let Some((flag, _)) = docker_only.iter().find(|(_, given)| *given) {
        bail!("{flag} is about containers, and with --native there is none: leave it out");
    }
    let mut command = Command::new(program);
    command
        .env(KEY, key.reveal())
        .env("HELIOGRAPH_RELAY", relay)
        .env("HELIOGRAPH_NAME", &options.name)
        .env(
            "HELIOGRAPH_DRAIN_SECONDS",
            options.drain_seconds.to_string(),
        );
    if let Some(model) = &options.model {
        command.env("HELIOGRAPH_MODEL", model);
    }
    if let Some(file) = &options.model_file {
        command.env("HELIOGRAPH_MODEL_FILE", file);
    }
    if let Some(slots) = options.slots {
        command.env("HELIOGRAPH_SLOTS", slots.to_string());
    }
    command.args(&options.flags);
    Ok(command)
}

#[cfg(unix)]
fn become_it(command: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt as _;

    // Signals and the exit code are then the rig's own.
    Err(command.exec().into())
}

#[cfg(not(unix))]
fn become_it(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        bail!("it ended with {status}")
    }
}

/// The program that was named, else the one beside us, else the first on the search path.
fn program(named: Option<&Path>, beside: Option<&Path>, path: &[PathBuf]) -> Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_path_buf());
    }
    let neighbour = beside.and_then(Path::parent).map(Path::to_path_buf);
    neighbour
        .iter()
        .chain(path)
        .map(|folder| folder.join("rig"))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            anyhow!(
                "there is no program called `rig` beside heliograph or on the search path; say where it is with \
                 --program (`cargo xtask demo` leaves one at build/rig/rig), or build it with `cargo build --release -p \
                 node-container` (on a Mac with `--features metal`)"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_beside_us_comes_before_the_search_path() {
        let root = env::temp_dir().join(format!("heliograph-native-{}", std::process::id()));
        let folders = [root.join("beside"), root.join("path")];
        for folder in &folders {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("rig"), b"").unwrap();
        }
        let beside = folders[0].join("heliograph");
        let path = [folders[1].clone()];
        assert_eq!(
            program(None, Some(&beside), &path).unwrap(),
            folders[0].join("rig")
        );
        assert_eq!(program(None, None, &path).unwrap(), folders[1].join("rig"));
        assert_eq!(
            program(Some(Path::new("/x")), Some(&beside), &path).unwrap(),
            Path::new("/x")
        );
        std::fs::remove_dir_all(&root).unwrap();
        let error = program(None, None, &path).unwrap_err().to_string();
        assert!(error.contains("--features metal"), "{error}");
    }
}
