//! Builds the native program, and the rig where llama.cpp is asked.

use std::path::PathBuf;

use anyhow::Result;

use crate::artefacts::{build_rig, cargo_with};
use crate::clones::claim;
use crate::console::Step;
use crate::places::Places;
use crate::process::run;

/// Where the native program is.
pub(super) fn programs(places: &Places, with_rig: bool) -> Result<PathBuf> {
    if std::env::var_os(crate::BUILT).is_none() {
        if with_rig {
            build_rig(places, &[])?;
        }
        let _claim = claim(places)?;
        let mut step = Step::begin("the engine for WebGPU, natively");
        run(
            &mut step,
            cargo_with(places, "build").args(["--release", "-p", "webgpu"]),
        )?;
        step.done_quietly();
    }
    Ok(places.target.join("release/webgpu"))
}
