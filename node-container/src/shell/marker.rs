//! Whether the rig before this one died in mid-work: an abort in a driver, the kernel's killer, a power cut. Such an end
//! leaves no words and no code that anybody would wait for, so that Docker starts the rig again at once, and each time it
//! reads the whole model.
//!
//! A living rig holds a lock on a file in `<cache>/running`, and removes it when it ends by itself. A file of the rig's
//! name that nobody holds is what a death left. Two rigs of one name may live (an update, side by side): each has its own.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Files looked at; there are as many as rigs share a cache.
const FILES_MAX: usize = 1_024;

/// Beside the models.
const FOLDER: &str = "running";

/// This rig's file.
#[derive(Debug)]
pub(super) struct Marker {
    path: PathBuf,
    /// The lock ends with it.
    _file: File,
}

/// Clears away what dead rigs of this name left, and leaves this one's marker. Says whether there was any.
pub(super) fn begin(cache: &Path, name: &str) -> io::Result<(bool, Marker)> {
    let folder = cache.join(FOLDER);
    fs::create_dir_all(&folder)?;
    // A name may have characters that no file's may.
    let digest = Sha256::digest(name.as_bytes());
    let begins = digest
        .iter()
        .take(8)
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let mut had_died = false;
    for entry in fs::read_dir(&folder)?.take(FILES_MAX).flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(&begins);
        if is_ours && is_left(&entry.path()) {
            had_died = true;
            // One that cannot be removed makes the next start wait too.
            drop(fs::remove_file(entry.path()));
        }
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let path = folder.join(format!("{begins}-{:016x}", u64::from_le_bytes(random)));
    let file = File::create_new(&path)?;
    file.try_lock()?;
    Ok((had_died, Marker { path, _file: file }))
}

/// Whether nobody holds it any more.
fn is_left(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

impl Marker {
    /// This rig ends by itself.
    pub(super) fn end(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the next start will wait in vain");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("removed");
        }
    }

    fn folder(name: &str) -> Folder {
        let name = format!("heliograph-marker-{name}-{}", std::process::id());
        Folder(std::env::temp_dir().join(name))
    }

    #[test]
    fn a_death_is_seen_once_and_an_orderly_end_is_none() {
        let folder = folder("death");
        let begin = |name| begin(&folder.0, name).expect("writable");
        let (had_died, marker) = begin("a/b");
        assert!(!had_died);
        // The lock goes with the process; the file stays.
        drop(marker);
        assert!(!begin("a").0, "another rig's");
        let (had_died, marker) = begin("a/b");
        assert!(had_died);
        marker.end();
        assert!(!begin("a/b").0);
    }

    #[test]
    fn a_rig_of_the_same_name_that_lives_is_no_death() {
        let folder = folder("pair");
        let (_, first) = begin(&folder.0, "rig").expect("writable");
        let (had_died, second) = begin(&folder.0, "rig").expect("writable");
        assert!(!had_died);
        first.end();
        drop(second);
        assert!(begin(&folder.0, "rig").expect("writable").0);
    }
}
