//! What lies beside a partial file: which of its bytes are whole, and of which version of the remote file they are.

use serde::{Deserialize, Serialize};

use crate::ranges::Ranges;

/// An 18 GB file in pieces of 4 MiB has a few thousand ranges at most, of 30 bytes each.
pub(crate) const SIDECAR_BYTES_MAX: u64 = 1 << 20;

/// The one form that there is so far.
const VERSION: u32 = 1;

/// What the other side says of its file. Two downloads may be put together only where this is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// Its size.
    pub bytes: u64,
    /// Its `ETag`, or else when it was changed.
    pub validator: Option<String>,
}

/// The text beside a partial file.
#[derive(Debug, Serialize, Deserialize)]
struct Text {
    version: u32,
    remote: Remote,
    whole: Vec<(u64, u64)>,
}

/// Writes it.
pub fn write(remote: &Remote, whole: &Ranges) -> String {
    let text = Text {
        version: VERSION,
        remote: remote.clone(),
        whole: whole.to_pairs(),
    };
    serde_json::to_string(&text).unwrap_or_default()
}

/// The ranges that can be kept: none where the text is damaged, of another version of the file, or where nothing tells
/// versions of the file apart (`is_hash_known` says that the hash will in the end).
pub fn read(text: &str, remote: &Remote, is_hash_known: bool) -> Option<Ranges> {
    let text: Text = serde_json::from_str(text).ok()?;
    let is_same = text.version == VERSION && text.remote == *remote;
    if !is_same || (remote.validator.is_none() && !is_hash_known) {
        return None;
    }
    Ranges::from_pairs(&text.whole, remote.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(bytes: u64, validator: Option<&str>) -> Remote {
        Remote {
            bytes,
            validator: validator.map(str::to_owned),
        }
    }

    #[test]
    fn ranges_come_back_only_for_the_same_version_of_the_file() {
        let mut whole = Ranges::default();
        whole.insert(0..10);
        whole.insert(20..30);
        let tagged = remote(100, Some("a"));
        let text = write(&tagged, &whole);
        assert_eq!(read(&text, &tagged, false), Some(whole.clone()));
        assert_eq!(read(&text, &remote(100, Some("b")), true), None);
        assert_eq!(read(&text, &remote(101, Some("a")), true), None);
        assert_eq!(read(&text, &remote(100, None), true), None);
        assert_eq!(read("{", &tagged, true), None);
        let beyond = text.replace("[20,30]", "[20,300]");
        assert_ne!(beyond, text);
        assert_eq!(read(&beyond, &tagged, true), None);

        let bare = remote(100, None);
        let text = write(&bare, &whole);
        assert_eq!(read(&text, &bare, false), None);
        assert_eq!(read(&text, &bare, true), Some(whole));
    }
}
