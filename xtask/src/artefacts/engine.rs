//! The engine for browsers: the wasm module with its bindings, beside the worker that loads it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Stamp, bind, files_below, wasm_module};
use crate::clones::claim;
use crate::console::Step;
use crate::places::Places;
use crate::setup::Tools;

/// Builds it alone.
pub(crate) fn build_engine(places: &Places, tools: &Tools) -> Result<()> {
    let _claim = claim(places)?;
    engine(places, tools)
}

/// Builds it, for speed: it is downloaded once, beside a model that is a hundred times as large.
pub(super) fn engine(places: &Places, tools: &Tools) -> Result<()> {
    let mut step = Step::begin("engine (wasm)");
    let module = wasm_module(places, &mut step, "browser-node", "browser_node.wasm", &[])?;
    let scripts = files_below(&places.root.join("browser-node/worker"))?;
    let mut inputs: Vec<&Path> = scripts.iter().map(PathBuf::as_path).collect();
    inputs.push(&module);
    let folder = places.engine();
    let stamp = Stamp::of(&folder, &inputs, tools)?;
    if stamp.holds() {
        step.done_quietly();
        return Ok(());
    }
    let partial = places.root.join("build/engine.partial");
    bind(&mut step, tools, &module, "browser_node", "-O3", &partial)?;
    for path in &scripts {
        let name = path.file_name().context("a script without a name")?;
        fs::copy(path, partial.join(name))
            .with_context(|| format!("cannot copy {}", path.display()))?;
    }
    fs::remove_dir_all(&folder)?;
    fs::rename(&partial, &folder)?;
    stamp.write()?;
    step.done_quietly();
    Ok(())
}
