//! Engines of other people that run models in a browser, from npm, and the demo's models in the format that one of them
//! wants, converted here from the GGUFs that everybody else reads.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::install_python;
use crate::console::Step;
use crate::places::Places;
use crate::process::{guarded, run};
use crate::setup::{Lock, Tools, fresh_folder, is_complete, key_of, mark_complete};

/// Natives of ONNX Runtime for Node, 300 MB, which the package for browsers draws in and no browser loads.
const UNUSED: &str = "onnxruntime-node";

/// What the converted model depends on, beside the GGUF.
const CONVERTER: [&str; 5] = [
    "convert.py",
    "quantise.py",
    "prompt.py",
    "prompt.txt",
    "requirements.txt",
];

/// Where scripts, pages and the lists of packages are.
pub(crate) fn browser_sources(places: &Places) -> PathBuf {
    places.root.join("benches/peers/browser")
}

/// wllama and transformers.js, of the versions in their lock file: the folder with the packages.
pub(crate) fn browser_engines(places: &Places, tools: &Tools) -> Result<PathBuf> {
    let sources = browser_sources(places);
    let lists = ["package.json", "package-lock.json"].map(|name| sources.join(name));
    let [package, lock] = &lists;
    let key = key_of(&[package, lock])?;
    let folder = places.cache.join("peers").join(format!("browser-{key}"));
    let modules = folder.join("node_modules");
    if is_complete(&folder) {
        return Ok(modules);
    }
    let _lock = Lock::take(&places.cache.join("setup.lock"))?;
    let mut step = Step::begin("wllama and transformers.js");
    fresh_folder(&folder)?;
    for list in &lists {
        let name = list.file_name().context("a list without a name")?;
        fs::copy(list, folder.join(name))?;
    }
    let npm = "../lib/node_modules/npm/bin/npm-cli.js";
    run(
        &mut step,
        guarded(tools.node())
            .arg(tools.node_bin.join(npm))
            .args(["ci", "--ignore-scripts", "--omit=optional"])
            .args(["--no-audit", "--no-fund"])
            .env("PATH", tools.search_path()?)
            .current_dir(&folder),
    )?;
    let unused = modules.join(UNUSED);
    if unused.is_dir() {
        fs::remove_dir_all(unused)?;
    }
    mark_complete(&folder)?;
    step.done();
    Ok(modules)
}

/// A GGUF as transformers.js loads it: the folder of the model, converted the first time.
pub(crate) fn onnx_model(places: &Places, gguf: &Path) -> Result<PathBuf> {
    let sources = browser_sources(places);
    let parts = CONVERTER.map(|name| sources.join(name));
    let key = key_of(&parts.each_ref().map(PathBuf::as_path))?;
    let model = gguf.file_stem().context("a model without a name")?;
    let bytes = fs::metadata(gguf)
        .with_context(|| format!("cannot read {}", gguf.display()))?
        .len();
    let folder = places
        .cache
        .join("peers")
        .join(format!("onnx-{key}"))
        .join(format!("{}-{bytes}", model.display()));
    if is_complete(&folder) {
        return Ok(folder);
    }
    let _lock = Lock::take(&places.cache.join("setup.lock"))?;
    let python = converter(places, &sources)?;
    let mut step = Step::begin(format!("{} as ONNX", model.display()));
    fresh_folder(&folder)?;
    run(
        &mut step,
        guarded(python)
            .arg(sources.join("convert.py"))
            .arg(gguf)
            .arg(sources.join("prompt.txt"))
            .arg(&folder)
            // No files of Python's own in the clone.
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    )?;
    mark_complete(&folder)?;
    step.done();
    Ok(folder)
}

/// The Python that has what the converter needs. Whoever calls holds the lock.
fn converter(places: &Places, sources: &Path) -> Result<PathBuf> {
    let requirements = sources.join("requirements.txt");
    let folder = places
        .cache
        .join("peers")
        .join(format!("onnx-python-{}", key_of(&[&requirements])?));
    let python = folder.join("bin/python");
    if is_complete(&folder) {
        return Ok(python);
    }
    let mut step = Step::begin("Python packages that write ONNX");
    fresh_folder(&folder)?;
    install_python(&mut step, &folder, &["-r".into(), requirements.into()])?;
    mark_complete(&folder)?;
    step.done();
    Ok(python)
}
