//! `setup`: everything that a build, the demo and the tests need, put in place once and then left alone.
//!
//! Each part looks first whether it is there, which costs a few file look-ups, so a warm run is done in well under
//! a second. What is missing is installed into the user's cache folder, keyed by version, under one lock.

mod debian;
mod embedder;
mod model;
mod node;
pub(crate) mod peers;
mod python;
mod rust;
mod test_model;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::console::Step;
use crate::places::Places;
use crate::process;

pub(crate) use debian::{adapter_environment, chromium};
pub(crate) use model::ModelFile;

/// What the set-up is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Building and running.
    Demo,
    /// The same and what only lint needs: components of the Rust toolchain.
    Lint,
    /// Building the relay and the pages for an image: no C++ compiler, no model.
    Image,
    /// Building, running and what only tests need: a browser, and a second model.
    Tests,
}

/// Where the tools are.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// The folder with `node`, to be put first on the search path: scripts of packages start it by name.
    pub(crate) node_bin: PathBuf,
    /// The folder with the npm packages.
    pub(crate) node_modules: PathBuf,
    /// Python with the packages of `requirements.txt`.
    pub(crate) python: PathBuf,
    /// The spelling checker.
    pub(crate) typos: PathBuf,
    /// wasm-bindgen's command, of the version in the lock file.
    pub(crate) wasm_bindgen: PathBuf,
    /// worker-build, of the version of the `worker` crate.
    pub(crate) worker_build: PathBuf,
    /// The Worker runtime itself.
    pub(crate) workerd: PathBuf,
    /// The bundler that worker-build calls.
    pub(crate) esbuild: PathBuf,
    /// The model that the demo runs.
    pub(crate) model: ModelFile,
    /// A model with sliding windows, for tests only; may be missing for other purposes.
    pub(crate) test_model: PathBuf,
}

impl Tools {
    /// The search path with our Node in front.
    pub(crate) fn search_path(&self) -> Result<std::ffi::OsString> {
        let old = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(self.node_bin.clone()).chain(std::env::split_paths(&old));
        Ok(std::env::join_paths(all)?)
    }

    /// The optimiser of WebAssembly.
    pub(crate) fn wasm_opt(&self) -> PathBuf {
        self.node_modules.join(".bin/wasm-opt")
    }

    /// Our own `node`.
    pub(crate) fn node(&self) -> PathBuf {
        self.node_bin.join("node")
    }

    /// wrangler's entry script, to be run by `node`.
    pub(crate) fn wrangler(&self) -> PathBuf {
        self.node_modules.join("wrangler/bin/wrangler.js")
    }
}

/// Puts everything in place and says where it is.
pub(crate) fn setup(places: &Places, purpose: Purpose) -> Result<Tools> {
    let step = Step::begin("tools and model are ready");
    let locks = rust::LockedVersions::read(places)?;
    let parts = Parts {
        python: python::Python::at(places)?,
        node: node::Node::at(places)?,
        wasm_bindgen: rust::CargoTool::new(
            places,
            "wasm-bindgen",
            "wasm-bindgen-cli",
            &locks.wasm_bindgen,
        ),
        worker_build: rust::CargoTool::new(places, "worker-build", "worker-build", &locks.worker),
        model: ModelFile::of_the_demo(places)?,
        test_model: test_model::TestModel::at(places),
        embedder: embedder::Embedder::at(places),
    };
    let debian = debian::missing(purpose);
    let toolchain = rust::missing(purpose)?;
    if !debian.is_empty() || !toolchain.is_empty() || !parts.all_there(purpose) {
        let _lock = Lock::take(&places.cache.join("setup.lock"))?;
        debian::install(&debian)?;
        toolchain.install()?;
        parts.python.install()?;
        parts.node.install(places, &parts.python)?;
        parts.wasm_bindgen.install(places)?;
        parts.worker_build.install(places)?;
        if purpose != Purpose::Image {
            parts.model.install(places, &parts.python)?;
        }
        if purpose == Purpose::Tests {
            parts.test_model.install(places, &parts.python)?;
            parts.embedder.install(places, &parts.python)?;
        }
    }
    step.done_quietly();
    parts.tools()
}

/// Puts in place what benchmarks of the engine for WebGPU need beyond [`Purpose::Demo`]: a browser, and an adapter in
/// software for native programs.
pub(crate) fn webgpu(places: &Places) -> Result<()> {
    if !debian::missing_for_webgpu().is_empty() {
        let _lock = Lock::take(&places.cache.join("setup.lock"))?;
        debian::install(&debian::missing_for_webgpu())?;
    }
    Ok(())
}

/// A second model, which only tests and benchmarks need: its attention slides over a window. Puts it in place.
pub(crate) fn second_model(places: &Places) -> Result<PathBuf> {
    let model = test_model::TestModel::at(places);
    if !model.is_there() {
        let _lock = Lock::take(&places.cache.join("setup.lock"))?;
        model.install(places, &python::Python::at(places)?)?;
    }
    Ok(model.path)
}

/// Everything but what the system's package manager and rustup keep.
struct Parts {
    python: python::Python,
    node: node::Node,
    wasm_bindgen: rust::CargoTool,
    worker_build: rust::CargoTool,
    model: ModelFile,
    test_model: test_model::TestModel,
    embedder: embedder::Embedder,
}

impl Parts {
    fn all_there(&self, purpose: Purpose) -> bool {
        self.python.is_there()
            && self.node.is_there()
            && self.wasm_bindgen.is_there()
            && self.worker_build.is_there()
            && (purpose == Purpose::Image || self.model.is_there())
            && (purpose != Purpose::Tests || self.test_model.is_there())
            && (purpose != Purpose::Tests || self.embedder.is_there())
    }

    fn tools(self) -> Result<Tools> {
        Ok(Tools {
            node_bin: self.python.node_bin(),
            workerd: self
                .node
                .platform_binary("@cloudflare/workerd-linux", "64", "bin/workerd")?,
            esbuild: self
                .node
                .platform_binary("@esbuild/linux", "x64", "bin/esbuild")?,
            node_modules: self.node.modules(),
            typos: self.python.binary("typos"),
            python: self.python.binary("python"),
            wasm_bindgen: self.wasm_bindgen.binary(),
            worker_build: self.worker_build.binary(),
            model: self.model,
            test_model: self.test_model.path,
        })
    }
}

/// A lock between processes: held while the file is open, gone with the process however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it, waiting for another process to let go.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let mut step = Step::begin("another xtask is at work; waited for it");
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(fs::TryLockError::WouldBlock) => {}
                Err(fs::TryLockError::Error(error)) => return Err(error.into()),
            }
            if process::interrupted() {
                bail!("interrupted");
            }
            step.tick();
            thread::sleep(process::POLL);
        }
        step.done_quietly();
        Ok(Self { _file: file })
    }
}

/// The first 16 hexadecimal digits of the SHA-256 of some files: enough to key a cache folder.
pub(crate) fn key_of(files: &[&Path]) -> Result<String> {
    let mut hash = Sha256::new();
    for path in files {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    let mut key = crate::keys::hex(&hash.finalize());
    key.truncate(16);
    Ok(key)
}

/// Marks a folder as complete; what lacks the mark was interrupted and is made anew.
fn mark_complete(folder: &Path) -> Result<()> {
    let path = folder.join(".complete");
    fs::write(&path, b"").with_context(|| format!("cannot write {}", path.display()))
}

fn is_complete(folder: &Path) -> bool {
    folder.join(".complete").is_file()
}

/// An empty folder, whatever was there before.
pub(crate) fn fresh_folder(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}
