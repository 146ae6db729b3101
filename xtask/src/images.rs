//! `prebuilt`: lays out in `build/prebuilt` what the container images hold, for the `Dockerfile` to copy.
//!
//! ```text
//! rig/      the program, llama.cpp's libraries, one back-end per kind of processor, the list of what is in it
//! rig-gpu/  back-ends for graphics cards, where they were asked for
//! relay/    workerd, the Worker, the pages, its configuration, the list of what is in it
//! ```
//!
//! An image build runs this inside a stage of its own (`ARTEFACTS=compiled`), or copies what was laid out before
//! (`ARTEFACTS=prebuilt`), which the tests do so that llama.cpp is not compiled twice.

mod contents;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::artefacts::{build_rig, build_worker_and_pages, files_below};
use crate::console::say;
use crate::places::Places;
use crate::relay_config::{Run, Wrangler};
use crate::setup::{Purpose, fresh_folder, setup};
use contents::{Contents, Part};

/// Where the image keeps the relay. Fixed at build time, since workerd wants absolute paths.
const RELAY_HOME: &str = "/opt/heliograph/relay";

/// Where the relay's image keeps what the pools store: a volume.
const RELAY_STORE: &str = "/var/lib/heliograph";

/// Where the relay listens inside its container.
const RELAY_LISTEN: &str = "0.0.0.0:8787";

/// Bindings of the relay that a container's environment sets, with what they are otherwise. workerd gives `null` for
/// what is not set at all, so each has a value. Hashes are no secrets of the image: nobody gets in before they are set.
const SETTINGS: [(&str, &str); 5] = [
    ("API_KEY_HASHES", ""),
    ("NODE_KEY_HASHES", ""),
    ("CATALOG", ""),
    ("LEASE_MS", "30000"),
    ("AUTH_MODE", "keys"),
];

/// Lays out what container images hold.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which
    #[arg(value_enum, required = true)]
    parts: Vec<Image>,
    /// Build llama.cpp's back-ends for these cards too; each needs its tool kit (the Dockerfile installs it)
    #[arg(long, value_enum)]
    backend: Vec<Backend>,
}

/// A kind of image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Image {
    /// The rig, with every CPU variant of llama.cpp
    Rig,
    /// The relay under plain workerd
    Relay,
}

/// A way to compute on a graphics card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Backend {
    /// Any card with a Vulkan driver
    Vulkan,
    /// NVIDIA's
    Cuda,
    /// AMD's
    Rocm,
}

impl Backend {
    /// The feature of `node-container`.
    const fn feature(self) -> &'static str {
        match self {
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
        }
    }
}

/// Builds and lays out.
pub(crate) fn run(places: &Places, options: &Options) -> Result<()> {
    for image in &options.parts {
        match image {
            Image::Rig => rig(places, &options.backend)?,
            Image::Relay => relay(places)?,
        }
    }
    Ok(())
}

/// Whole-system tests lay out what was built just before them.
fn is_built() -> bool {
    std::env::var_os(crate::BUILT).is_some()
}

fn prebuilt(places: &Places, name: &str) -> PathBuf {
    places.root.join("build/prebuilt").join(name)
}

/// No set-up first: a rig needs a C++ compiler and cargo, and an image's stage has just these.
fn rig(places: &Places, backends: &[Backend]) -> Result<()> {
    let features: Vec<&str> = backends.iter().map(|backend| backend.feature()).collect();
    if !is_built() {
        build_rig(places, &features)?;
    }
    let (rig, gpu) = (prebuilt(places, "rig"), prebuilt(places, "rig-gpu"));
    fresh_folder(&rig)?;
    fresh_folder(&gpu)?;
    let names: Vec<String> = files_below(&places.rig())?
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    for name in names.iter().filter(|name| is_needed(name, &names)) {
        let folder = if is_of_a_card(name) {
            // A clone may hold back-ends of earlier builds; an image holds those that it was asked for.
            if !backends
                .iter()
                .any(|backend| name.contains(gpu_library(*backend)))
            {
                continue;
            }
            &gpu
        } else {
            &rig
        };
        copy(&places.rig().join(name), &folder.join(name))?;
    }
    copy(&open_mp()?, &rig.join(OPEN_MP))?;
    let mut contents = Contents::of(places, &[Part::native("node-container", &features)])?;
    contents.add_open_mp();
    contents.write(&rig.join("contents.cdx.json"))?;
    say(&format!("laid out {}", rig.display()));
    Ok(())
}

/// The library of OpenMP that clang links. It lies beside the rig, since its package would bring all of LLVM along.
const OPEN_MP: &str = "libomp.so.5";

fn open_mp() -> Result<PathBuf> {
    let path = Path::new("/usr/lib/llvm-19/lib").join(OPEN_MP);
    ensure!(
        path.is_file(),
        "there is no {}; install libomp-19-dev",
        path.display()
    );
    Ok(path)
}

/// What the name of a back-end's library contains.
const fn gpu_library(backend: Backend) -> &'static str {
    match backend {
        Backend::Vulkan => "ggml-vulkan",
        Backend::Cuda => "ggml-cuda",
        Backend::Rocm => "ggml-hip",
    }
}

fn is_of_a_card(name: &str) -> bool {
    [Backend::Vulkan, Backend::Cuda, Backend::Rocm]
        .into_iter()
        .any(|backend| name.contains(gpu_library(backend)))
}

/// A library comes under three names (`.so`, `.so.0`, `.so.0.6.0`), here as three files. Programs look for the middle
/// one, where there is one.
fn is_needed(name: &str, all: &[String]) -> bool {
    let Some((stem, version)) = name.split_once(".so") else {
        return !name.ends_with(".partial");
    };
    if version.is_empty() {
        return !all.contains(&format!("{stem}.so.0"));
    }
    version.matches('.').count() == 1
}

fn relay(places: &Places) -> Result<()> {
    let tools = setup(places, Purpose::Image)?;
    if !is_built() {
        build_worker_and_pages(places, &tools)?;
    }
    let folder = prebuilt(places, "relay");
    fresh_folder(&folder)?;
    copy(&tools.workerd, &folder.join("workerd"))?;
    for name in ["index.js", "index_bg.wasm"] {
        copy(&places.worker().join(name), &folder.join(name))?;
    }
    for path in files_below(&places.pages())? {
        let target = folder
            .join("pages")
            .join(path.strip_prefix(places.pages())?);
        copy(&path, &target)?;
    }
    let wrangler = Wrangler::read(&places.root.join("wrangler.toml"))?;
    fs::write(folder.join("config.capnp"), relay_config(&wrangler)?)?;
    fs::write(folder.join("settings.sh"), settings(&wrangler))?;
    let parts = [Part::wasm("edge-relay"), Part::wasm("web")];
    let mut contents = Contents::of(places, &parts)?;
    contents.add_workerd(places)?;
    contents.write(&folder.join("contents.cdx.json"))?;
    say(&format!("laid out {}", folder.display()));
    Ok(())
}

/// The relay's configuration, with every setting taken from the environment at start.
fn relay_config(wrangler: &Wrangler) -> Result<String> {
    let names: Vec<String> = all_settings(wrangler).into_keys().collect();
    wrangler.workerd_config(&Run {
        listen: RELAY_LISTEN,
        persist: Path::new(RELAY_STORE),
        pages: &Path::new(RELAY_HOME).join("pages"),
        vars: &BTreeMap::new(),
        from_environment: &names,
    })
}

/// Every setting and what it is unless the environment says otherwise.
fn all_settings(wrangler: &Wrangler) -> BTreeMap<String, String> {
    let ours = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut all = BTreeMap::from(ours);
    all.extend(wrangler.workerd_vars());
    all
}

/// The same for the shell that starts workerd: sets what is not set.
fn settings(wrangler: &Wrangler) -> String {
    let lines = all_settings(wrangler).into_iter().map(|(name, value)| {
        let value = value.replace('\'', r"'\''");
        format!("[ -n \"${{{name}-}}\" ] || {name}='{value}'\nexport {name}\n")
    });
    let head = "# Generated from wrangler.toml by xtask; do not edit.\n";
    std::iter::once(head.to_owned()).chain(lines).collect()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {}", from.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_three_names_of_a_library_an_image_gets_the_one_that_programs_look_for() {
        let all = [
            "libllama.so",
            "libllama.so.0",
            "libllama.so.0.6.0",
            "libggml-cpu-x64.so",
            "rig",
            "rig.partial",
        ]
        .map(str::to_owned);
        let kept: Vec<&str> = all
            .iter()
            .filter(|name| is_needed(name, &all))
            .map(String::as_str)
            .collect();
        assert_eq!(kept, ["libllama.so.0", "libggml-cpu-x64.so", "rig"]);
    }

    #[test]
    fn the_images_settings_come_from_the_environment_and_all_have_a_value() {
        let wrangler = Wrangler::parse(include_str!("../../wrangler.toml")).unwrap();
        let config = relay_config(&wrangler).unwrap();
        let settings = settings(&wrangler);
        for name in ["API_KEY_HASHES", "NODE_KEY_HASHES", "AUTH_MODE", "LEASE_MS"] {
            let binding = format!(r#"(name = "{name}", fromEnvironment = "{name}")"#);
            assert!(config.contains(&binding), "{config}");
            assert!(settings.contains(&format!("export {name}\n")), "{settings}");
        }
        assert!(settings.contains("|| FRAMES_PER_SECOND_MAX='6000'\n"));
        // A binding without a value would be the text "null".
        let bound = config.matches("fromEnvironment").count();
        assert_eq!(bound, settings.matches("export ").count());
    }
}
