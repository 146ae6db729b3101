//! Where dependencies come from. `deny.toml` says more; this much is checked on every machine.

use anyhow::{Context, Result};

/// The one registry.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What would bring a second TLS stack or a C library along.
const BANNED: [&str; 3] = ["openssl", "openssl-sys", "native-tls"];

/// Complaints about a `Cargo.lock`.
pub(super) fn complaints(lock: &str) -> Result<Vec<String>> {
    let lock: toml::Table = toml::from_str(lock).context("Cargo.lock")?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let mut complaints = Vec::new();
    for package in packages.into_iter().flatten() {
        let name = package
            .get("name")
            .and_then(toml::Value::as_str)
            .unwrap_or("?");
        let source = package.get("source").and_then(toml::Value::as_str);
        if source.is_some_and(|source| source != REGISTRY) {
            complaints.push(format!(
                "Cargo.lock: {name} does not come from the public registry; publish it or copy what is needed, \
                 or other people cannot build this"
            ));
        }
        if BANNED.contains(&name) {
            complaints.push(format!(
                "Cargo.lock: {name} came in; switch the crate that wants it to its rustls feature, \
                 so that there is one TLS stack and no C library to patch"
            ));
        }
    }
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_sources_and_banned_crates_are_told() {
        let lock = format!(
            "[[package]]\nname = \"ours\"\n\n[[package]]\nname = \"fine\"\nsource = \"{REGISTRY}\"\n\n\
             [[package]]\nname = \"native-tls\"\nsource = \"{REGISTRY}\"\n\n\
             [[package]]\nname = \"fork\"\nsource = \"git+https://example.org/fork\"\n"
        );
        let found = complaints(&lock).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
