//! Builds what is deployed: the rig, the Worker, the pages, the engine for browsers.
//!
//! Cargo decides whether to compile. What comes after it (wasm-bindgen, wasm-opt, bundling) is skipped when the
//! compiled module and the tools are those of the last time. The results are copied into the clone, because the
//! target folder is shared with other clones, whose builds have the same file names.

mod engine;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::clones::claim;
use crate::console::{Step, say};
use crate::places::Places;
use crate::process::{capture, guarded, run};
use crate::setup::{Tools, fresh_folder, key_of};

pub(crate) use engine::build_engine;

/// The most that the Worker may weigh, gzipped: a start-up cost that every cold request pays.
/// (Cloudflare's own limit is 3 MB on the free plan.)
const WORKER_GZIP_BYTES_MAX: usize = 1 << 20;

/// A way to build the Worker.
struct Variant {
    title: &'static str,
    /// Its folder.
    folder: fn(&Places) -> PathBuf,
    /// The same, seen from the crate: worker-build takes nothing else.
    out_dir: &'static str,
    features: &'static [&'static str],
}

/// What wrangler deploys.
const DEPLOYED: Variant = Variant {
    title: "relay (Worker)",
    folder: Places::worker,
    out_dir: "build",
    features: &[],
};

/// What tests can break.
const FAULTY: Variant = Variant {
    title: "relay with faults on demand (Worker)",
    folder: Places::faulty_worker,
    out_dir: "../build/faulty-worker",
    features: &["--features", "fault-injection"],
};

/// A sentence of the feature `fault-injection`; what is deployed must not have it. (Not a route: the compiler turns
/// comparisons with those into numbers.)
const FAULT_MARK: &[u8] = b"a test asked for it";

/// Compilers of llama.cpp. Every build sets the same, since a change would compile it again, which takes minutes.
const LLAMA_ENV: [(&str, &str); 3] = [
    ("CC", "clang-19"),
    ("CXX", "clang++-19"),
    ("LIBCLANG_PATH", "/usr/lib/llvm-19/lib"),
];

/// Cargo with the shared target folder and the same environment however xtask itself was started.
pub(crate) fn cargo(places: &Places) -> Command {
    let mut command = guarded("cargo");
    command
        .current_dir(&places.root)
        .env("CARGO_TARGET_DIR", &places.target)
        .envs(LLAMA_ENV);
    // `cargo xtask` leaves what it tells its own child; build scripts must not see it.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST") {
            command.env_remove(&name);
        }
    }
    command.env_remove("LD_LIBRARY_PATH");
    command
}

/// A subcommand of cargo that resolves dependencies. What checks a change (`CI` is set) must not move a lock file.
pub(crate) fn cargo_with(places: &Places, subcommand: &str) -> Command {
    let mut command = cargo(places);
    command.arg(subcommand);
    if std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false") {
        command.arg("--locked");
    }
    command
}

/// Builds everything. The claim keeps other clones from putting their files in the shared target folder in between.
pub(crate) fn build_all(places: &Places, tools: &Tools) -> Result<()> {
    let _claim = claim(places)?;
    rig(places, &[])?;
    worker(places, tools, &DEPLOYED)?;
    pages(places, tools)?;
    engine::engine(places, tools)
}

/// Builds the rig with these features.
pub(crate) fn build_rig(places: &Places, features: &[&str]) -> Result<()> {
    let _claim = claim(places)?;
    rig(places, features)
}

/// Builds `heliograph` for the tests, and puts it where they look for it.
pub(crate) fn build_heliograph(places: &Places) -> Result<()> {
    let _claim = claim(places)?;
    let mut step = Step::begin("heliograph");
    run(
        &mut step,
        cargo_with(places, "build").args(["-p", "operator-cli"]),
    )?;
    let folder = places.root.join("build");
    fs::create_dir_all(&folder)?;
    copy_if_newer(
        &places.target.join("debug/heliograph"),
        &folder.join("heliograph"),
    )?;
    step.done_quietly();
    Ok(())
}

/// Builds what wrangler deploys.
pub(crate) fn build_worker_and_pages(places: &Places, tools: &Tools) -> Result<()> {
    let _claim = claim(places)?;
    worker(places, tools, &DEPLOYED)?;
    pages(places, tools)
}

/// Builds the Worker that tests can break.
pub(crate) fn build_faulty_worker(places: &Places, tools: &Tools) -> Result<()> {
    let _claim = claim(places)?;
    worker(places, tools, &FAULTY)
}

/// The rig's binary with llama.cpp's shared libraries and backends beside it, as an image would ship them.
fn rig(places: &Places, features: &[&str]) -> Result<()> {
    let mut step = Step::begin("rig (the first build compiles llama.cpp: minutes)");
    let messages = capture(
        &mut step,
        cargo_with(places, "build")
            .args(["--release", "-p", "node-container"])
            .args(["--features", &features.join(",")])
            .arg("--message-format=json-render-diagnostics"),
    )?;
    let mut binary = None;
    let mut llama = None;
    for message in messages.lines().filter_map(parse) {
        let is_rig = message.pointer("/target/name").and_then(Value::as_str) == Some("rig");
        if let Some(path) = message.get("executable").and_then(Value::as_str)
            && is_rig
        {
            binary = Some(PathBuf::from(path));
        }
        let of_llama = message
            .get("package_id")
            .and_then(Value::as_str)
            .is_some_and(|id| id.contains("llama-cpp-sys-2"));
        if let Some(path) = message.get("out_dir").and_then(Value::as_str)
            && of_llama
        {
            llama = Some(PathBuf::from(path));
        }
    }
    let binary = binary.context("cargo built no rig")?;
    let llama = llama.context("cargo built no llama.cpp")?;
    let folder = places.rig();
    fs::create_dir_all(&folder)?;
    copy_if_newer(&binary, &folder.join("rig"))?;
    for source in [llama.join("lib"), llama.join("backends")] {
        for entry in fs::read_dir(&source).with_context(|| source.display().to_string())? {
            let path = entry?.path();
            let Some(name) = path.file_name() else {
                continue;
            };
            if name.to_string_lossy().contains(".so") {
                copy_if_newer(&path, &folder.join(name))?;
            }
        }
    }
    step.done_quietly();
    Ok(())
}

fn parse(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}

/// Replaces a file in one step, so that a rig that is running keeps its own.
fn copy_if_newer(from: &Path, to: &Path) -> Result<()> {
    let source = fs::metadata(from).with_context(|| from.display().to_string())?;
    let same = fs::metadata(to).is_ok_and(|target| {
        target.len() == source.len() && target.modified().ok() == source.modified().ok()
    });
    if same {
        return Ok(());
    }
    let partial = to.with_extension("partial");
    fs::copy(from, &partial).with_context(|| format!("cannot copy {}", from.display()))?;
    File::options()
        .write(true)
        .open(&partial)?
        .set_modified(source.modified()?)?;
    fs::rename(&partial, to)?;
    Ok(())
}

/// The Worker: compiled, then bundled by worker-build.
fn worker(places: &Places, tools: &Tools, variant: &Variant) -> Result<()> {
    let mut step = Step::begin(variant.title);
    let file = "edge_relay.wasm";
    let module = wasm_module(places, &mut step, "edge-relay", file, variant.features)?;
    let folder = (variant.folder)(places);
    let stamp = Stamp::of(&folder, &[&module], tools)?;
    let results = [folder.join("index.js"), folder.join("index_bg.wasm")];
    if !stamp.holds() || !results.iter().all(|path| path.is_file()) {
        run(
            &mut step,
            guarded(&tools.worker_build)
                .args(["--release", "--out-dir", variant.out_dir, "."])
                .args(variant.features)
                .current_dir(places.root.join("edge-relay"))
                .env("CARGO_TARGET_DIR", &places.target)
                .envs(LLAMA_ENV)
                .env("PATH", tools.search_path()?)
                .env("ESBUILD_BIN", &tools.esbuild)
                .env("WASM_OPT_BIN", tools.wasm_opt())
                .env("WASM_BINDGEN_BIN", &tools.wasm_bindgen),
        )?;
        stamp.write()?;
    }
    step.done_quietly();
    check_worker(&results, variant)
}

/// Light enough, and with faults on demand only where they were asked for.
fn check_worker(results: &[PathBuf], variant: &Variant) -> Result<()> {
    let mut bytes = 0;
    let mut has_faults = false;
    for path in results {
        bytes += gzipped_bytes(path)?;
        let content = fs::read(path)?;
        has_faults |= content
            .windows(FAULT_MARK.len())
            .any(|window| window == FAULT_MARK);
    }
    if has_faults == variant.features.is_empty() {
        bail!(
            "{}: the feature fault-injection is {} this build, and must be the other way round",
            variant.title,
            if has_faults { "in" } else { "not in" }
        );
    }
    say(&format!("  Worker: {} KiB gzipped", bytes.div_ceil(1024)));
    if bytes > WORKER_GZIP_BYTES_MAX {
        bail!(
            "the Worker has {bytes} bytes gzipped, more than {WORKER_GZIP_BYTES_MAX}; \
             `cargo tree -p edge-relay` shows what came in"
        );
    }
    Ok(())
}

/// The pages: compiled, bound, optimised, and laid beside their static files.
fn pages(places: &Places, tools: &Tools) -> Result<()> {
    let mut step = Step::begin("pages");
    let module = wasm_module(places, &mut step, "web", "web.wasm", &[])?;
    let statics = files_below(&places.root.join("web/static"))?;
    let mut inputs: Vec<&Path> = statics.iter().map(PathBuf::as_path).collect();
    inputs.push(&module);
    let stamp = Stamp::of(&places.root.join("build"), &inputs, tools)?;
    let folder = places.pages();
    if stamp.holds() && folder.is_dir() {
        step.done_quietly();
        return Ok(());
    }
    let partial = places.root.join("build/pages.partial");
    bind(&mut step, tools, &module, "web", "-Os", &partial)?;
    let source = places.root.join("web/static");
    for path in &statics {
        let target = partial.join(path.strip_prefix(&source)?);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(&partial, &folder)?;
    stamp.write()?;
    step.done_quietly();
    Ok(())
}

/// Binds a module for browsers into an empty folder, as `NAME.js` and `NAME_bg.wasm`, and optimises it.
fn bind(
    step: &mut Step,
    tools: &Tools,
    module: &Path,
    name: &str,
    level: &str,
    folder: &Path,
) -> Result<()> {
    fresh_folder(folder)?;
    run(
        step,
        guarded(&tools.wasm_bindgen)
            .args(["--target", "web", "--no-typescript"])
            .args(["--out-name", name, "--out-dir"])
            .arg(folder)
            .arg(module),
    )?;
    let bound = folder.join(format!("{name}_bg.wasm"));
    run(
        step,
        guarded(tools.wasm_opt())
            .args([level, "-o"])
            .arg(&bound)
            .arg(&bound)
            .env("PATH", tools.search_path()?),
    )
}

/// Compiles a crate to WebAssembly and says where the module is.
fn wasm_module(
    places: &Places,
    step: &mut Step,
    package: &str,
    file: &str,
    features: &[&str],
) -> Result<PathBuf> {
    let target = "wasm32-unknown-unknown";
    run(
        step,
        cargo_with(places, "build")
            .args(["--lib", "--release", "--target", target, "-p", package])
            .args(features)
            // worker-build sets this; the same here, or each would undo the other's work.
            .env("WASM_BINDGEN_USE_JS_SYS", "1"),
    )?;
    let module = places.target.join(target).join("release").join(file);
    if !module.is_file() {
        bail!("cargo built no {}", module.display());
    }
    Ok(module)
}

/// Every file below a folder, sorted, so that a hash over them is stable.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Remembers of what a folder was made.
struct Stamp {
    path: PathBuf,
    key: String,
}

impl Stamp {
    fn of(folder: &Path, inputs: &[&Path], tools: &Tools) -> Result<Self> {
        fs::create_dir_all(folder)?;
        // The tools' folders carry their versions in their names. File names count too: a page may be renamed.
        let mut key = format!("{}\n{tools:?}\n", key_of(inputs)?);
        for input in inputs {
            key.push_str(&input.display().to_string());
            key.push('\n');
        }
        Ok(Self {
            path: folder.join(".inputs"),
            key,
        })
    }

    fn holds(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|text| text == self.key)
    }

    fn write(&self) -> Result<()> {
        let mut file = File::create(&self.path)?;
        file.write_all(self.key.as_bytes())?;
        Ok(())
    }
}

/// How much a file weighs on its way to the edge. gzip itself is on every machine that can unpack a crate.
fn gzipped_bytes(path: &Path) -> Result<usize> {
    let output = Command::new("gzip")
        .args(["-9", "-c"])
        .arg(path)
        .output()
        .context("cannot run gzip")?;
    if !output.status.success() {
        bail!("gzip could not read {}", path.display());
    }
    Ok(output.stdout.len())
}
