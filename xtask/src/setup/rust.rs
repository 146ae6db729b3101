//! What comes from rustup and cargo: the wasm target, wasm-bindgen's command and worker-build.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Purpose;
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

/// Components that lint needs, and the program that shows that each is there.
const LINT: [(&str, &str); 2] = [("clippy", "cargo-clippy"), ("rustfmt", "rustfmt")];

/// What the compiler in use lacks. `rust-toolchain.toml` names all of it, but rustup may be told not to install by
/// itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    target: bool,
    components: Vec<&'static str>,
}

/// Looks what the compiler in use lacks.
pub(super) fn missing(purpose: Purpose) -> Result<Missing> {
    let output = std::process::Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .context("cannot run rustc")?;
    let sysroot = String::from_utf8(output.stdout)?;
    let mut missing = Missing::below(Path::new(sysroot.trim()), on_path("rustup"));
    if purpose != Purpose::Lint {
        missing.components.clear();
    }
    Ok(missing)
}

impl Missing {
    /// With rustup, the search path has a stand-in for every program, so only the sysroot tells the truth.
    fn below(sysroot: &Path, with_rustup: bool) -> Self {
        let is_there = |program: &str| {
            sysroot.join("bin").join(program).is_file() || (!with_rustup && on_path(program))
        };
        Self {
            target: !sysroot.join("lib/rustlib").join(WASM).join("lib").is_dir(),
            components: LINT
                .iter()
                .filter(|(_, program)| !is_there(program))
                .map(|(component, _)| *component)
                .collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.target && self.components.is_empty()
    }

    /// Adds it through rustup.
    pub(super) fn install(&self) -> Result<()> {
        if self.target {
            rustup(&["target", "add", WASM])?;
        }
        if !self.components.is_empty() {
            rustup(&[&["component", "add"], self.components.as_slice()].concat())?;
        }
        Ok(())
    }
}

fn rustup(words: &[&str]) -> Result<()> {
    let what = words.join(" ");
    if !on_path("rustup") {
        bail!("rustup is not there; please do what `rustup {what}` would do");
    }
    let mut step = Step::begin(format!("rustup {what}"));
    run(&mut step, guarded("rustup").args(words))?;
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
    fn a_bare_toolchain_lacks_the_wasm_target_and_what_lint_needs() {
        let missing = Missing::below(Path::new("/nonexistent"), true);
        assert!(missing.target);
        assert_eq!(missing.components, ["clippy", "rustfmt"]);
    }

    #[test]
    fn the_version_is_that_of_the_crate_with_exactly_this_name() {
        let lock = "[[package]]\nname = \"worker-macros\"\nversion = \"0.1.0\"\n\n\
                    [[package]]\nname = \"worker\"\nversion = \"0.8.7\"\n";
        assert_eq!(locked_version(lock, "worker").as_deref(), Some("0.8.7"));
        assert_eq!(locked_version(lock, "work"), None);
    }
}
