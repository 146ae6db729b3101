//! What lies in the cache where a whole download was another file than the one that was meant: which version of the
//! remote file that was. As long as the other side has that version, nobody needs to fetch it again to know.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::FetchError;
use crate::sidecar::Remote;

/// Two hashes, a validator and a size; longer texts are not ours.
const TEXT_BYTES_MAX: u64 = 4 << 10;

/// The one form that there is so far.
const VERSION: u32 = 1;

/// One refused download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    version: u32,
    remote: Remote,
    /// What the download itself was to hash to, where that was known: a package's hash may be corrected in its index.
    asked: Option<String>,
    /// What the model was to hash to.
    expected: String,
    /// What it hashed to.
    found: String,
}

impl Refused {
    /// None where nothing tells versions of the remote file apart: then the next try may bring another one.
    pub(crate) fn new(
        remote: &Remote,
        asked: Option<&str>,
        (expected, found): (&str, &str),
    ) -> Option<Self> {
        remote.validator.as_ref()?;
        Some(Self {
            version: VERSION,
            remote: remote.clone(),
            asked: asked.map(str::to_owned),
            expected: expected.to_owned(),
            found: found.to_owned(),
        })
    }

    /// Writes it down. One that cannot be written costs a download, no more.
    pub(crate) fn write(&self, path: &Path) {
        let text = serde_json::to_string(self).unwrap_or_default();
        drop(fs::write(path, text));
    }

    /// What is written there. None where there is nothing, or nothing that can be read.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let mut text = String::new();
        let file = File::open(path).ok()?;
        file.take(TEXT_BYTES_MAX).read_to_string(&mut text).ok()?;
        let refused: Self = serde_json::from_str(&text).ok()?;
        (refused.version == VERSION).then_some(refused)
    }

    /// Why this version of the remote file is not fetched; none where it is another one.
    pub(crate) fn refuses(
        self,
        remote: &Remote,
        asked: Option<&str>,
        (name, path): (&str, &Path),
    ) -> Option<FetchError> {
        let is_same = self.remote == *remote && self.asked.as_deref() == asked;
        is_same.then(|| FetchError::KnownWrong {
            name: name.to_owned(),
            expected: self.expected,
            found: self.found,
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(validator: Option<&str>) -> Remote {
        Remote {
            bytes: 100,
            validator: validator.map(str::to_owned),
        }
    }

    #[test]
    fn only_the_very_version_that_was_wrong_is_refused() {
        let refused = Refused::new(&remote(Some("a")), Some("e"), ("e", "f")).unwrap();
        let is_refused = |validator, asked| {
            let at = ("m.gguf", Path::new("/c/e.refused.json"));
            refused.clone().refuses(&remote(validator), asked, at)
        };
        let said = is_refused(Some("a"), Some("e")).unwrap().to_string();
        assert!(said.contains("/c/e.refused.json"), "{said}");
        assert!(is_refused(Some("b"), Some("e")).is_none());
        assert!(is_refused(None, Some("e")).is_none());
        assert!(is_refused(Some("a"), Some("corrected")).is_none());
    }

    #[test]
    fn what_has_no_versions_is_not_remembered() {
        assert_eq!(Refused::new(&remote(None), Some("e"), ("e", "f")), None);
    }
}
