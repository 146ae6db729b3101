//! Where test models lie.

use std::path::{Path, PathBuf};

const MODEL: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53/SmolLM2-135M-Instruct.Q4_1.gguf";

/// The test model: `HELIOGRAPH_TEST_MODEL`, or where `cargo xtask setup` puts it.
pub(crate) fn model_file() -> PathBuf {
    found("HELIOGRAPH_TEST_MODEL", MODEL)
}

/// A file of the cache that `cargo xtask setup --tests` fills, or where a variable says that it is.
pub(crate) fn found(variable: &str, model: &str) -> PathBuf {
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
