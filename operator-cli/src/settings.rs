//! The optional file with settings that all commands share, for who types the same flags every day:
//!
//! ```toml
//! relay = "wss://relay.example"
//! registry = "registry.example/heliograph"
//! key-file = "/home/me/.config/heliograph/node.key"
//! api-key-file = "/home/me/.config/heliograph/api.key"
//! ```
//!
//! A flag beats the environment, which beats this file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::secret::Secret;

/// The environment's variable with the node key.
pub(crate) const KEY: &str = "HELIOGRAPH_KEY";

/// What the file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// The relay's address.
    pub(crate) relay: Option<String>,
    /// Where images come from.
    pub(crate) registry: Option<String>,
    /// Where the node key is.
    pub(crate) key_file: Option<PathBuf>,
    /// Where the API key is.
    pub(crate) api_key_file: Option<PathBuf>,
}

impl Settings {
    /// Reads the file that was named, or the usual one if there is one.
    pub(crate) fn read(named: Option<&Path>) -> Result<Self> {
        let usual = usual();
        let path = match (named, usual.as_deref()) {
            (Some(path), _) => path,
            (None, Some(path)) if path.is_file() => path,
            (None, _) => return Ok(Self::default()),
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// The relay's address: the one that was named, else the file's.
    pub(crate) fn relay(&self, named: Option<&str>) -> Option<String> {
        named.map(str::to_owned).or_else(|| self.relay.clone())
    }

    /// The same, where nothing goes without.
    pub(crate) fn needed_relay(&self, named: Option<&str>) -> Result<String> {
        self.relay(named).context(
            "which relay? `--relay wss://relay.example`, or HELIOGRAPH_RELAY, or `relay = \"wss://…\"` in \
             ~/.config/heliograph/config.toml",
        )
    }

    /// The node key: of the file that was named, else of the environment, else of the file that the settings name.
    pub(crate) fn node_key(&self, named: Option<&Path>) -> Result<Option<Secret>> {
        Secret::read("hgn-", named, KEY, self.key_file.as_deref())
    }
}

fn usual() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).filter(|path| !path.is_empty());
    let base = folder("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&folder("HOME")?).join(".config")))?;
    Some(base.join("heliograph/config.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_does_not_exist_is_refused_by_name() {
        let error = toml::from_str::<Settings>("key = \"hgn-x\"")
            .unwrap_err()
            .to_string();
        assert!(error.contains("unknown field `key`"), "{error}");
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let error = Settings::read(Some(Path::new("/no/such/file"))).unwrap_err();
        assert!(error.to_string().contains("/no/such/file"));
    }
}
