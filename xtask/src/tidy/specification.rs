//! PROTOCOL.md carries the hash of the protocol's sources: who changes one has to look at the other.

use std::fs;

use anyhow::{Context, Result};

use crate::artefacts::files_below;
use crate::console::say;
use crate::keys::hex;
use crate::places::Places;
use sha2::{Digest as _, Sha256};

const LABEL: &str = "Source hash: ";
const DOCUMENT: &str = "PROTOCOL.md";

/// What is wrong, if anything is.
pub(super) fn complaint(places: &Places) -> Result<Option<String>> {
    let Ok(document) = fs::read_to_string(places.root.join(DOCUMENT)) else {
        return Ok(Some(format!(
            "{DOCUMENT} is missing; it is the specification of crates/protocol"
        )));
    };
    let wanted = source_hash(places)?;
    Ok(match stated_hash(&document) {
        Some(stated) if stated == wanted => None,
        Some(_) => Some(format!(
            "{DOCUMENT}: crates/protocol has changed since it was checked; bring the text up to date, \
             then `cargo xtask lint --bless`"
        )),
        None => Some(format!(
            "{DOCUMENT}: a line `{LABEL}{wanted}` is missing; `cargo xtask lint --bless` writes it"
        )),
    })
}

/// Writes the hash of today.
pub(super) fn bless(places: &Places) -> Result<()> {
    let path = places.root.join(DOCUMENT);
    let document = fs::read_to_string(&path).with_context(|| format!("cannot read {DOCUMENT}"))?;
    fs::write(&path, with_hash(&document, &source_hash(places)?))?;
    say(&format!(
        "{DOCUMENT} carries the hash of crates/protocol/src"
    ));
    Ok(())
}

/// Over names and contents of the sources, without their tests.
fn source_hash(places: &Places) -> Result<String> {
    let folder = places.root.join("crates/protocol/src");
    let mut hash = Sha256::new();
    for path in files_below(&folder)? {
        let name = path.strip_prefix(&folder)?.to_string_lossy().into_owned();
        let is_source = path.extension().is_some_and(|extension| extension == "rs");
        if !is_source || name.ends_with("tests.rs") || name.contains("tests/") {
            continue;
        }
        let text = fs::read(&path)?;
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(&text);
    }
    Ok(hex(&hash.finalize()))
}

fn stated_hash(document: &str) -> Option<&str> {
    document.lines().find_map(|line| {
        let at = line.find(LABEL)? + LABEL.len();
        let rest = line.get(at..)?;
        let end = rest
            .find(|letter: char| !letter.is_ascii_hexdigit())
            .unwrap_or(rest.len());
        rest.get(..end).filter(|hash| !hash.is_empty())
    })
}

fn with_hash(document: &str, hash: &str) -> String {
    match stated_hash(document) {
        Some(old) => document.replacen(old, hash, 1),
        None => format!("{}\n\n{LABEL}{hash}\n", document.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_written_once_and_then_replaced() {
        let first = with_hash("# Wire\n", "aa11");
        assert_eq!(first, "# Wire\n\nSource hash: aa11\n");
        assert_eq!(with_hash(&first, "bb22"), "# Wire\n\nSource hash: bb22\n");
    }

    #[test]
    fn the_hash_may_stand_inside_other_marks() {
        assert_eq!(stated_hash("<!-- Source hash: 0a1b -->"), Some("0a1b"));
        assert_eq!(stated_hash("no such line"), None);
    }
}
