//! What comes from rustup and cargo: the wasm target, wasm-bindgen's command and worker-build.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::console::Step;
use crate::places::Places;
use crate::process::{capture, guarded, on_path, run};

const WASM: &str = "wasm32-unknown-unknown";

/// Versions that must match crates in `Cargo.lock`.
pub(super) struct LockedVersions {
    /// The command's version must be the crate's, to the digit.
    pub(super) wasm_bindgen: String,
    /// worker-build is released together with the `worker` crate.
    pub(super) worker: String,
}

impl LockedVersions {
    pub(super) fn read(places: &Places) -> Result<Self> {
        let path = places.root.join("Cargo.lock");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let of = |name: &str| {
            locked_version(&text, name)
                .with_context(|| format!("Cargo.lock holds no crate `{name}`"))
        };
        Ok(Self {
            wasm_bindgen: of("wasm-bindgen")?,
            worker: of("worker")?,
        })
    }
}

/// The version that a lock file gives a crate. The format is stable, so two lines are enough to look at.
fn locked_version(lock: &str, name: &str) -> Option<String> {
    let header = format!("name = \"{name}\"");
    let mut lines = lock.lines().skip_while(|line| *line != header).skip(1);
    let version = lines.next()?.strip_prefix("version = \"")?;
    Some(version.strip_suffix('"')?.to_owned())
}

/// Whether the compiler in use has the wasm target.
pub(super) fn target_is_there() -> Result<bool> {
    let output = std::process::Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .context("cannot run rustc")?;
    let sysroot = String::from_utf8(output.stdout)?;
    Ok(Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(WASM)
        .join("lib")
        .is_dir())
}

/// Adds the wasm target. `rust-toolchain.toml` names it too, but rustup may be told not to install by itself.
pub(super) fn add_target() -> Result<()> {
    if target_is_there()? {
        return Ok(());
    }
    if !on_path("rustup") {
        bail!("please install the Rust target {WASM} (rustup is not there to do it)");
    }
    let mut step = Step::begin(format!("Rust target {WASM}"));
    run(&mut step, guarded("rustup").args(["target", "add", WASM]))?;
    step.done();
    Ok(())
}

/// A program that cargo builds from a package.
pub(super) struct CargoTool {
    binary: &'static str,
    package: &'static str,
    version: String,
    folder: PathBuf,
}

impl CargoTool {
    pub(super) fn new(
        places: &Places,
        binary: &'static str,
        package: &'static str,
        version: &str,
    ) -> Self {
        Self {
            binary,
            package,
            version: version.to_owned(),
            folder: places.tool(binary, version),
        }
    }

    pub(super) fn binary(&self) -> PathBuf {
        self.folder.join("bin").join(self.binary)
    }

    pub(super) fn is_there(&self) -> bool {
        // Cargo moves the finished binary here; half a binary cannot be.
        self.binary().is_file()
    }

    pub(super) fn install(&self, places: &Places) -> Result<()> {
        if self.is_there() {
            return Ok(());
        }
        let mut step = Step::begin(format!("{} {} (minutes, once)", self.package, self.version));
        capture(
            &mut step,
            guarded("cargo")
                .args(["install", "--locked", "--force", self.package])
                .args(["--version", &format!("={}", self.version)])
                .arg("--root")
                .arg(&self.folder)
                // Not the target folder of the project: the tools have their own profiles and features.
                .env("CARGO_TARGET_DIR", places.cache.join("tools/build"))
                .current_dir(&places.root),
        )?;
        step.done();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_crate_with_exactly_this_name() {
        let lock = "[[package]]\nname = \"worker-macros\"\nversion = \"0.1.0\"\n\n\
                    [[package]]\nname = \"worker\"\nversion = \"0.8.7\"\n";
        assert_eq!(locked_version(lock, "worker").as_deref(), Some("0.8.7"));
        assert_eq!(locked_version(lock, "work"), None);
    }
}
