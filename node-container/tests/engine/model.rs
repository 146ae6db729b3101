//! Where the test model lies.

use std::path::PathBuf;

const MODEL: &str = "heliograph/models/b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53/SmolLM2-135M-Instruct.Q4_1.gguf";

/// The test model: `HELIOGRAPH_TEST_MODEL`, or where `cargo xtask setup` puts it.
pub(crate) fn model_file() -> PathBuf {
    let path = std::env::var_os("HELIOGRAPH_TEST_MODEL").map_or_else(
        || {
            let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
                || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
                PathBuf::from,
            );
            cache.join(MODEL)
        },
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "the test model {} is missing: run `cargo xtask setup`, or set HELIOGRAPH_TEST_MODEL",
        path.display()
    );
    path
}
