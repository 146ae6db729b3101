//! Where things are: the clone, and the user's cache folder that all clones share.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folders that every command works with.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The root of this clone.
    pub(crate) root: PathBuf,
    /// `${XDG_CACHE_HOME:-~/.cache}/heliograph`: tools, models and the cargo target folder, keyed by version.
    pub(crate) cache: PathBuf,
    /// Cargo's target folder. Shared by all clones, since llama.cpp alone costs minutes.
    pub(crate) target: PathBuf,
}

impl Places {
    /// Finds them from the environment.
    pub(crate) fn find() -> Result<Self> {
        let root = root_above(&env::current_dir()?)
            .context("run this inside a clone of Heliograph")?
            .to_path_buf();
        let base = match env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
            Some(path) => PathBuf::from(path),
            None => Path::new(&env::var_os("HOME").context("HOME is not set")?).join(".cache"),
        };
        let cache = base.join("heliograph");
        let target = match env::var_os("CARGO_TARGET_DIR").filter(|path| !path.is_empty()) {
            Some(path) => root.join(path),
            None => cache.join("target"),
        };
        Ok(Self {
            root,
            cache,
            target,
        })
    }

    /// A tool of one version.
    pub(crate) fn tool(&self, name: &str, version: &str) -> PathBuf {
        self.cache.join("tools").join(format!("{name}-{version}"))
    }

    /// The built pages, which the Worker serves as its assets.
    pub(crate) fn pages(&self) -> PathBuf {
        self.root.join("build/pages")
    }

    /// The built Worker.
    pub(crate) fn worker(&self) -> PathBuf {
        self.root.join("edge-relay/build")
    }

    /// The same Worker with routes that break it on purpose, for tests. Apart from what is deployed.
    pub(crate) fn faulty_worker(&self) -> PathBuf {
        self.root.join("build/faulty-worker")
    }

    /// The built engine for browsers, with the worker that loads it.
    pub(crate) fn engine(&self) -> PathBuf {
        self.root.join("build/engine")
    }

    /// The built rig with the shared libraries and backends that it needs beside it.
    pub(crate) fn rig(&self) -> PathBuf {
        self.root.join("build/rig")
    }
}

/// The clone that a folder is in. Not the clone that xtask was compiled in: clones may share a target folder, and then
/// whoever built last has the file called `xtask`.
fn root_above(folder: &Path) -> Option<&Path> {
    folder.ancestors().find(|folder| {
        folder.join("xtask/Cargo.toml").is_file() && folder.join("wrangler.toml").is_file()
    })
}
