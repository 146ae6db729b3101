//! Several clones, one target folder. Cargo decides by modification times what to build again, and calls our crates the
//! same in every clone: without this, a clone would link what another clone built from other sources.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::places::Places;
use crate::setup::Lock;

/// Folders whose sources are ours.
const OURS: [&str; 9] = [
    "browser-node",
    "crates",
    "edge-relay",
    "fuzz",
    "node-container",
    "operator-cli",
    "web",
    "tests",
    "xtask",
];

/// While this is held, the target folder is this clone's.
#[derive(Debug)]
pub(crate) struct Claim {
    _lock: Lock,
}

/// Makes this clone the one whose sources count, until the claim is dropped. Everything that compiles holds one: another
/// clone may have built since the last. Not to be taken twice at a time.
pub(crate) fn claim(places: &Places) -> Result<Claim> {
    let lock = Lock::take(&places.cache.join("build.lock"))?;
    take_over(&places.root, &places.target)?;
    drop_dangling_libraries(&places.target)?;
    Ok(Claim { _lock: lock })
}

/// Removes links to shared libraries that lead nowhere. llama-cpp-sys-2's build script leaves such links in the target
/// folder, and fails on them when it runs again with other features or in another version.
fn drop_dangling_libraries(target: &Path) -> Result<()> {
    for folder in ["debug", "release"].map(|profile| target.join(profile)) {
        for folder in [folder.clone(), folder.join("deps"), folder.join("examples")] {
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries {
                let path = entry?.path();
                let is_library = path.extension().is_some_and(|extension| extension == "so");
                if is_library && path.is_symlink() && !path.exists() {
                    fs::remove_file(&path)
                        .with_context(|| format!("cannot remove {}", path.display()))?;
                }
            }
        }
    }
    Ok(())
}

/// Where another clone built last, ours are marked as new, so that our own crates are built again and nothing else is.
/// Says whether that was so; if not, it costs reading one small file.
fn take_over(root: &Path, target: &Path) -> Result<bool> {
    let marker = target.join(".heliograph-clone");
    let name = root.to_string_lossy();
    if fs::read_to_string(&marker).is_ok_and(|last| last == name) {
        return Ok(false);
    }
    let now = SystemTime::now();
    for folder in OURS.map(|folder| root.join(folder)) {
        if folder.is_dir() {
            renew(&folder, now)?;
        }
    }
    fs::create_dir_all(target)?;
    fs::write(&marker, name.as_bytes())
        .with_context(|| format!("cannot write {}", marker.display()))?;
    Ok(true)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn modified(path: &Path) -> SystemTime {
        fs::metadata(path).unwrap().modified().unwrap()
    }

    #[test]
    fn links_to_libraries_that_lead_nowhere_are_removed_and_others_stay() {
        let base = std::env::temp_dir().join(format!("heliograph-links-{}", std::process::id()));
        let deps = base.join("release/deps");
        fs::create_dir_all(&deps).unwrap();
        File::create(deps.join("libreal.so.0")).unwrap();
        std::os::unix::fs::symlink("libreal.so.0", deps.join("libreal.so")).unwrap();
        std::os::unix::fs::symlink("libgone.so.0", deps.join("libgone.so")).unwrap();
        drop_dangling_libraries(&base).unwrap();
        assert!(deps.join("libreal.so").exists());
        assert!(!deps.join("libgone.so").is_symlink());
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn sources_are_new_exactly_when_another_clone_built_last() {
        let base = std::env::temp_dir().join(format!("heliograph-clones-{}", std::process::id()));
        let target = base.join("target");
        let clones = [base.join("one"), base.join("two")];
        for clone in &clones {
            fs::create_dir_all(clone.join("web/src")).unwrap();
            for name in ["web/src/lib.rs", "web/notes.txt"] {
                let file = File::create(clone.join(name)).unwrap();
                file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }
        }
        let [one, two] = &clones;
        assert!(take_over(one, &target).unwrap());
        let renewed = modified(&one.join("web/src/lib.rs"));
        assert!(renewed > SystemTime::UNIX_EPOCH);
        assert_eq!(modified(&one.join("web/notes.txt")), SystemTime::UNIX_EPOCH);
        assert!(!take_over(one, &target).unwrap());
        assert_eq!(modified(&one.join("web/src/lib.rs")), renewed);
        assert!(take_over(two, &target).unwrap());
        assert!(take_over(one, &target).unwrap());
        fs::remove_dir_all(&base).unwrap();
    }
}
