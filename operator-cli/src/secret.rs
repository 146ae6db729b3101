//! Keys: read from a file or the environment, never from the command line, never shown.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Longer ones are refused by every relay.
const KEY_BYTES_MAX: usize = 256;

/// A key; its text goes into one header or one container, and nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The key itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Reads a key from the file, else from the environment's variable, else from the file of the settings. Errors name
    /// the place and never quote the key.
    pub(crate) fn read(
        prefix: &str,
        file: Option<&Path>,
        variable: &str,
        fallback: Option<&Path>,
    ) -> Result<Option<Self>> {
        let from_environment = || std::env::var(variable).ok().filter(|text| !text.is_empty());
        let (text, place) = match (file, from_environment(), fallback) {
            (Some(path), _, _) | (None, None, Some(path)) => {
                let text = fs::read_to_string(path)
                    .with_context(|| format!("cannot read the key file {}", path.display()))?;
                (text, path.display().to_string())
            }
            (None, Some(text), _) => (text, variable.to_owned()),
            (None, None, None) => return Ok(None),
        };
        Self::parse(prefix, &text, &place).map(Some)
    }

    /// Checks a key's text; `place` is where it came from.
    pub(crate) fn parse(prefix: &str, text: &str, place: &str) -> Result<Self> {
        let key = text.trim();
        if !key.starts_with(prefix) {
            bail!("{place}: this key does not begin with {prefix}");
        }
        if key.len() > KEY_BYTES_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!("{place}: this is no key; it has spaces, is not ASCII or is too long");
        }
        Ok(Self(key.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_trimmed_and_never_shown() {
        let key = Secret::parse("hgn-", " hgn-abc\n", "here").unwrap();
        assert_eq!(key.reveal(), "hgn-abc");
        assert!(!format!("{key:?}").contains("abc"));
    }

    #[test]
    fn a_wrong_key_is_named_by_its_place_and_not_quoted() {
        for wrong in [
            "",
            "hg-api",
            "hgn-a b",
            "hgn-ä",
            &format!("hgn-{}", "a".repeat(300)),
        ] {
            let error = Secret::parse("hgn-", wrong, "the file")
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("the file:"), "{error}");
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }
}
