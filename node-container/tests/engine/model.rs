//! Where the test models lie.

use std::path::{Path, PathBuf};

const MODEL: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53/SmolLM2-135M-Instruct.Q4_1.gguf";

/// Of another architecture: its attention has sliding windows. A base model without a chat template.
const GEMMA: &str =
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818/gemma-3-270m-q4_k_m.gguf";

/// The test model: `HELIOGRAPH_TEST_MODEL`, or where `cargo xtask setup` puts it.
pub(crate) fn model_file() -> PathBuf {
    found("HELIOGRAPH_TEST_MODEL", MODEL)
}

/// The model with sliding windows: `HELIOGRAPH_GEMMA_FILE`, or where `cargo xtask setup --tests` puts it.
pub(crate) fn gemma_file() -> PathBuf {
    found("HELIOGRAPH_GEMMA_FILE", GEMMA)
}

fn found(variable: &str, model: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(
        || {
            let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
                || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
                PathBuf::from,
            );
            cache.join(Path::new("heliograph/models")).join(model)
        },
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "the test model {} is missing: run `cargo xtask setup --tests`, or set {variable}",
        path.display()
    );
    path
}
