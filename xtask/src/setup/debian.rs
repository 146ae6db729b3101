//! What comes from Debian's packages: a compiler for llama.cpp, Python's venv, a browser and a software graphics adapter
//! for the tests.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::Purpose;
use crate::console::Step;
use crate::process::{find_on_path, interrupted, on_path, run_unbroken, unguarded};

/// A package and the file that shows that it, or something as good, is there.
struct Package {
    name: &'static str,
    probe: &'static str,
    need: Need,
}

/// Who needs a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Everybody.
    Always,
    /// Who compiles llama.cpp.
    Rig,
    /// Who runs the tests.
    Tests,
}

impl Need {
    const fn holds_for(self, purpose: Purpose) -> bool {
        match (self, purpose) {
            (Self::Always, _) | (Self::Tests, Purpose::Tests) => true,
            (Self::Rig, purpose) => !matches!(purpose, Purpose::Image),
            (Self::Tests, Purpose::Demo | Purpose::Lint | Purpose::Image) => false,
        }
    }
}

const fn package(need: Need, name: &'static str, probe: &'static str) -> Package {
    Package { name, probe, need }
}

/// The browser of the tests.
const CHROMIUM: &str = "chromium";

/// Where Vulkan's drivers say that they are there.
const VULKAN_DRIVERS: &str = "/usr/share/vulkan/icd.d";

/// How the file of Mesa's software driver begins; newer versions leave out the processor's name that follows.
const LAVAPIPE: &str = "lvp_icd.";

/// Names the drivers that Vulkan's loader may use.
const DRIVERS_VARIABLE: &str = "VK_ICD_FILENAMES";

/// Clang and not GCC: Debian's GCC 12.2 miscompiles llama.cpp's AMX kernels.
const PACKAGES: &[Package] = &[
    package(Need::Rig, "make", "make"),
    package(Need::Rig, "cmake", "cmake"),
    package(Need::Rig, "clang-19", "clang-19"),
    package(
        Need::Rig,
        "libclang-19-dev",
        "/usr/lib/llvm-19/lib/libclang.so",
    ),
    package(Need::Rig, "libomp-19-dev", "/usr/lib/llvm-19/lib/libomp.so"),
    package(Need::Always, "python3", "python3"),
    package(Need::Tests, "chromium", CHROMIUM),
    package(
        Need::Tests,
        "fonts-dejavu-core",
        "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    ),
    // Vulkan in software, so that the kernels run on every machine; it brings Vulkan's loader with it.
    package(Need::Tests, "mesa-vulkan-drivers", LAVAPIPE),
    // A container engine of the tests' own, a base image for it, a registry to pull from.
    package(Need::Tests, "docker.io", "dockerd"),
    package(Need::Tests, "debootstrap", "debootstrap"),
    package(Need::Tests, "docker-registry", "docker-registry"),
    package(Need::Tests, "iptables", "iptables"),
    package(Need::Tests, "iproute2", "ip"),
];

/// Where the browser of the tests is, once it is there.
pub(crate) fn chromium() -> Option<PathBuf> {
    find_on_path(CHROMIUM)
}

/// What native programs find in their environment so that `wgpu` runs them on Mesa's software Vulkan: the same adapter
/// on every machine that tests. Nothing where it is not installed, or where somebody has chosen drivers already.
pub(crate) fn adapter_environment() -> Option<(&'static str, OsString)> {
    if std::env::var_os(DRIVERS_VARIABLE).is_some() {
        return None;
    }
    Some((DRIVERS_VARIABLE, lavapipe()?.into()))
}

fn lavapipe() -> Option<PathBuf> {
    let mut files = fs::read_dir(VULKAN_DRIVERS).ok()?.filter_map(Result::ok);
    let file = files.find(|file| file.file_name().to_string_lossy().starts_with(LAVAPIPE))?;
    Some(file.path())
}

/// What the engine for WebGPU needs to run on this machine and in a browser.
const WEBGPU: [&str; 3] = ["chromium", "fonts-dejavu-core", "mesa-vulkan-drivers"];

/// Those of them that are not there.
pub(super) fn missing_for_webgpu() -> Vec<&'static str> {
    let mut names = missing(Purpose::Tests);
    names.retain(|name| WEBGPU.contains(name));
    names
}

/// The packages that are not there.
pub(super) fn missing(purpose: Purpose) -> Vec<&'static str> {
    PACKAGES
        .iter()
        .filter(|package| package.need.holds_for(purpose))
        .filter(|package| !is_there(package.probe))
        .map(|package| package.name)
        .collect()
}

/// Absolute probes are files, others are programs.
fn is_there(probe: &str) -> bool {
    if probe == LAVAPIPE {
        lavapipe().is_some()
    } else if probe.starts_with('/') {
        Path::new(probe).exists()
    } else {
        on_path(probe)
    }
}

/// Installs packages through apt where we may, else says in one line what to install.
pub(super) fn install(names: &[&str]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let list = names.join(" ");
    let Some(prefix) = apt_prefix() else {
        bail!("please install these packages, then run this again: {list}");
    };
    let mut step = Step::begin(format!("Debian packages: {list}"));
    // The lists of a new machine are empty or old, so they come first; an install can meet a held lock or a mirror
    // that has just moved on, so it is tried twice.
    let mut result = Ok(());
    for _ in 0..2 {
        // An update that fails (one dead source among many) does not mean that the install will.
        _ = run_unbroken(&mut step, apt(prefix).arg("update"));
        if interrupted() {
            bail!("interrupted");
        }
        result = run_unbroken(
            &mut step,
            apt(prefix)
                .args(["install", "-y", "--no-install-recommends"])
                .args(names),
        );
        if result.is_ok() || interrupted() {
            break;
        }
    }
    match result {
        Ok(()) => {
            step.done();
            Ok(())
        }
        Err(error) => {
            step.failed();
            Err(error.context(format!(
                "apt could not install; please install by hand: {list}"
            )))
        }
    }
}

/// What to put before `apt-get`, or nothing if we may not use it.
fn apt_prefix() -> Option<&'static [&'static str]> {
    if !on_path("apt-get") {
        return None;
    }
    if nix::unistd::geteuid().is_root() {
        return Some(&[]);
    }
    let sudo = on_path("sudo")
        && Command::new("sudo")
            .args(["-n", "true"])
            .output()
            .is_ok_and(|output| output.status.success());
    sudo.then_some(&["sudo", "-n"])
}

/// Nothing of ours may kill it: dpkg that ends halfway leaves packages that have to be repaired by hand.
fn apt(prefix: &[&str]) -> Command {
    let mut words = prefix.iter().copied().chain([
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-o",
        "DPkg::Lock::Timeout=400",
    ]);
    let mut command = unguarded(words.next().unwrap_or("env"));
    command.args(words);
    command
}
