//! What only `bench` needs: relays and engines of other people. Nothing else depends on them, so they are installed when
//! asked for.

mod browser;
mod engines;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Lock, debian, fresh_folder, is_complete, mark_complete};
use crate::console::Step;
use crate::places::Places;
use crate::process::{find_on_path, guarded, run};

pub(crate) use browser::{browser_engines, browser_sources, onnx_model};
pub(crate) use engines::{NodeLlama, llama_server, node_llama};

/// Shepherd Model Gateway, from `PyPI`.
const SMG_VERSION: &str = "1.13.0";

/// The Python that has SMG.
pub(crate) fn smg(places: &Places) -> Result<PathBuf> {
    let folder = places
        .cache
        .join("peers")
        .join(format!("smg-{SMG_VERSION}"));
    let python = folder.join("bin/python");
    if is_complete(&folder) {
        return Ok(python);
    }
    let _lock = Lock::take(&places.cache.join("setup.lock"))?;
    let mut step = Step::begin(format!("SMG {SMG_VERSION}"));
    fresh_folder(&folder)?;
    install_python(&mut step, &folder, &[format!("smg=={SMG_VERSION}").into()])?;
    mark_complete(&folder)?;
    step.done();
    Ok(python)
}

/// nginx, from Debian.
pub(crate) fn nginx() -> Result<PathBuf> {
    // Debian puts it where only root's search path goes.
    let at_home = PathBuf::from("/usr/sbin/nginx");
    let found = || find_on_path("nginx").or_else(|| at_home.is_file().then(|| at_home.clone()));
    if found().is_none() {
        debian::install(&["nginx-light"])?;
    }
    found().context("apt installed no nginx")
}

/// A Python of its own in this folder, with what pip makes of these words.
fn install_python(step: &mut Step, folder: &Path, packages: &[OsString]) -> Result<()> {
    run(step, guarded("python3").args(["-m", "venv"]).arg(folder))?;
    run(
        step,
        guarded(folder.join("bin/python"))
            .args(["-m", "pip", "install", "--disable-pip-version-check"])
            .args(["--no-input", "--progress-bar", "off"])
            .args(packages),
    )
}
