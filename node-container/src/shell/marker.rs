//! Whether the rig before this one died in mid-work: an abort in a driver, the kernel's killer, a power cut. Such an end
//! leaves no words and no code that anybody would wait for, so that Docker starts the rig again at once, and each time it
//! reads the whole model.
//!
//! A living rig holds a lock on a file in `<cache>/running`, and removes it when it ends by itself. A file of the rig's
//! name that nobody holds is what a death left. Two rigs of one name may live (an update, side by side): each has its own.
//!
//! In the file stands how many deaths in a row there are if this rig dies as it is now: one more than before it, and 0 once
//! it has been ready.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Files looked at; there are as many as rigs share a cache.
const FILES_MAX: usize = 1_024;

/// Read of a file: the digits of the largest number that it may hold.
const TEXT_BYTES_MAX: u64 = 10;

/// Beside the models.
const FOLDER: &str = "running";

/// This rig's file.
#[derive(Debug)]
pub(super) struct Marker {
    path: PathBuf,
    /// The lock ends with it.
    file: File,
    deaths: Option<u32>,
}

/// Clears away what dead rigs of this name left, and leaves this one's marker.
pub(super) fn begin(cache: &Path, name: &str) -> io::Result<Marker> {
    let folder = cache.join(FOLDER);
    fs::create_dir_all(&folder)?;
    // A name may have characters that no file's may.
    let digest = Sha256::digest(name.as_bytes());
    let begins = digest
        .iter()
        .take(8)
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let mut deaths = None;
    for entry in fs::read_dir(&folder)?.take(FILES_MAX).flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(&begins);
        if is_ours && let Some(left) = left(&entry.path()) {
            deaths = deaths.max(Some(left));
            // One that cannot be removed makes the next start wait too.
            drop(fs::remove_file(entry.path()));
        }
    }
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let path = folder.join(format!("{begins}-{:016x}", u64::from_le_bytes(random)));
    let file = File::create_new(&path)?;
    let held = file.try_lock().map_err(io::Error::from);
    let held = held.and_then(|()| note(&file, deaths.unwrap_or(0).saturating_add(1)));
    if let Err(error) = held {
        // Where nothing can be locked, each start would leave one more.
        drop(fs::remove_file(&path));
        return Err(error);
    }
    Ok(Marker { path, file, deaths })
}

/// What stands in a file that nobody holds any more. It is opened for writing, since network file systems lock no other
/// files for one alone. What cannot be read (a power cut) is one death.
fn left(path: &Path) -> Option<u32> {
    let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
    file.try_lock().ok()?;
    let mut text = String::new();
    let read = file.take(TEXT_BYTES_MAX).read_to_string(&mut text);
    let number = read.ok().and_then(|_| text.trim().parse().ok());
    Some(number.unwrap_or(1))
}

/// Writes the number into the file.
fn note(mut file: &File, deaths: u32) -> io::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(deaths.to_string().as_bytes())
}

impl Marker {
    /// How many rigs died in a row before this one without having been ready; 0 where the last one died later than that,
    /// none where it ended by itself.
    pub(super) fn deaths(&self) -> Option<u32> {
        self.deaths
    }

    /// This rig has become ready: what comes now is no death in a row.
    pub(super) fn is_ready(&self) {
        if let Err(error) = note(&self.file, 0) {
            tracing::debug!(%error, "a later death will count as one while starting");
        }
    }

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

    impl Folder {
        fn begin(&self, name: &str) -> Marker {
            begin(&self.0, name).expect("writable")
        }
    }

    fn folder(name: &str) -> Folder {
        let name = format!("heliograph-marker-{name}-{}", std::process::id());
        Folder(std::env::temp_dir().join(name))
    }

    #[test]
    fn a_death_is_seen_once_and_an_orderly_end_is_none() {
        let folder = folder("death");
        let marker = folder.begin("a/b");
        assert_eq!(marker.deaths(), None);
        // The lock goes with the process; the file stays.
        drop(marker);
        assert_eq!(folder.begin("a").deaths(), None, "another rig's");
        let marker = folder.begin("a/b");
        assert_eq!(marker.deaths(), Some(1));
        marker.end();
        assert_eq!(folder.begin("a/b").deaths(), None);
    }

    #[test]
    fn deaths_in_a_row_are_counted_until_a_rig_was_ready() {
        let folder = folder("row");
        let deaths: Vec<Option<u32>> = (0..4).map(|_| folder.begin("rig").deaths()).collect();
        assert_eq!(deaths, [None, Some(1), Some(2), Some(3)]);
        let marker = folder.begin("rig");
        assert_eq!(marker.deaths(), Some(4));
        marker.is_ready();
        drop(marker);
        let deaths: Vec<Option<u32>> = (0..2).map(|_| folder.begin("rig").deaths()).collect();
        assert_eq!(deaths, [Some(0), Some(1)]);
        // A power cut may leave less than was written.
        let left = fs::read_dir(folder.0.join(FOLDER)).expect("a folder");
        for entry in left {
            fs::write(entry.expect("an entry").path(), "").expect("written");
        }
        assert_eq!(folder.begin("rig").deaths(), Some(1));
    }

    #[test]
    fn a_rig_of_the_same_name_that_lives_is_no_death() {
        let folder = folder("pair");
        let first = folder.begin("rig");
        let second = folder.begin("rig");
        assert_eq!(second.deaths(), None);
        first.end();
        drop(second);
        assert_eq!(folder.begin("rig").deaths(), Some(1));
    }
}
