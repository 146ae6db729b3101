//! The npm packages of the root `package.json`: workerd, wrangler, the bundler and the tests' own.
//! They live in the cache folder; the clone never gets a `node_modules`.

use std::env::consts::ARCH;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::python::Python;
use super::{fresh_folder, is_complete, key_of, mark_complete};
use crate::console::Step;
use crate::places::Places;
use crate::process::{guarded, run};

pub(super) struct Node {
    folder: PathBuf,
}

impl Node {
    pub(super) fn at(places: &Places) -> Result<Self> {
        let key = key_of(&[
            &places.root.join("package.json"),
            &places.root.join("package-lock.json"),
        ])?;
        Ok(Self {
            folder: places.cache.join("npm").join(key),
        })
    }

    pub(super) fn is_there(&self) -> bool {
        is_complete(&self.folder)
    }

    pub(super) fn modules(&self) -> PathBuf {
        self.folder.join("node_modules")
    }

    /// A native program inside a package that exists once per processor. `x86` is what the package calls that one.
    pub(super) fn platform_binary(&self, package: &str, x86: &str, path: &str) -> Result<PathBuf> {
        let suffix = match ARCH {
            "x86_64" => x86,
            "aarch64" => "arm64",
            other => bail!("there is no {package} for {other}"),
        };
        Ok(self
            .modules()
            .join(format!("{package}-{suffix}"))
            .join(path))
    }

    pub(super) fn install(&self, places: &Places, python: &Python) -> Result<()> {
        if self.is_there() {
            return Ok(());
        }
        let mut step = Step::begin("npm packages");
        fresh_folder(&self.folder)?;
        for name in ["package.json", "package-lock.json"] {
            fs::copy(places.root.join(name), self.folder.join(name))
                .with_context(|| format!("cannot copy {name}"))?;
        }
        // No install scripts: they only repair what we do not use, or download from elsewhere.
        run(
            &mut step,
            guarded(python.node_bin().join("node"))
                .arg(python.npm())
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(&self.folder),
        )?;
        mark_complete(&self.folder)?;
        step.done();
        Ok(())
    }
}
