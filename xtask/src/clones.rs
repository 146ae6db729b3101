//! Several clones, one target folder. Cargo decides by modification times what to build again, and calls our crates the
//! same in every clone: without this, a clone would link what another clone built from other sources.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::places::Places;
use crate::setup::Lock;

/// Folders whose sources are ours.
const OURS: [&str; 6] = [
    "crates",
    "edge-relay",
    "node-container",
    "web",
    "tests",
    "xtask",
];

/// Makes this clone the one whose sources count: where another one built last, ours are marked as new, so that our own
/// crates are built again and nothing else is.
pub(crate) fn claim(places: &Places) -> Result<()> {
    let _lock = Lock::take(&places.cache.join("build.lock"))?;
    let marker = places.target.join(".heliograph-clone");
    let root = places.root.to_string_lossy();
    if fs::read_to_string(&marker).is_ok_and(|last| last == root) {
        return Ok(());
    }
    let now = SystemTime::now();
    for folder in OURS {
        renew(&places.root.join(folder), now)?;
    }
    fs::create_dir_all(&places.target)?;
    fs::write(&marker, root.as_bytes())
        .with_context(|| format!("cannot write {}", marker.display()))
}

fn renew(folder: &Path, now: SystemTime) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        let is_source = path
            .extension()
            .is_some_and(|extension| extension == "rs" || extension == "toml");
        if path.is_dir() && !path.ends_with("node_modules") && !path.ends_with("build") {
            renew(&path, now)?;
        } else if is_source {
            File::options()
                .append(true)
                .open(&path)?
                .set_modified(now)?;
        }
    }
    Ok(())
}
