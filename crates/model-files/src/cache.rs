//! The folder that files end up in: names, the lock, room on the disk, and the hash of what lies there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use sha2::{Digest as _, Sha256};

use crate::FetchError;
use crate::named::Wanted;
use crate::progress::Progress;

/// A waiting process looks this often whether the other is done. A blocked lock could not be given up.
const LOCK_LOOK: Duration = Duration::from_millis(500);

/// One read of a file that is hashed.
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// `$XDG_CACHE_HOME/heliograph/models`, or the same below `~/.cache`. None where neither is known.
pub fn default_cache() -> Option<PathBuf> {
    let folder = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(cache.join("heliograph").join("models"))
}

/// Bytes that this user may still write at a folder, or at the nearest one above it that exists.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let existing = folder
        .ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/"));
    let space = statvfs(existing)?;
    Ok(space
        .blocks_available()
        .saturating_mul(space.fragment_size()))
}

/// The places that belong to one wanted file.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The whole cache.
    pub(crate) cache: PathBuf,
    /// Where the file has its folder.
    folder: PathBuf,
    /// The file, once it is whole and checked.
    pub(crate) file: PathBuf,
    /// The file while it is fetched.
    pub(crate) partial: PathBuf,
    /// A package while it is fetched.
    pub(crate) package: PathBuf,
    /// What was fetched whole and was wrong.
    pub(crate) refused: PathBuf,
    lock: PathBuf,
}

impl Place {
    pub(crate) fn new(cache: &Path, wanted: &Wanted) -> Self {
        let key = wanted.folder();
        let folder = cache.join(&key);
        Self {
            cache: cache.to_owned(),
            file: folder.join(&wanted.name),
            folder,
            partial: cache.join(format!("{key}.part")),
            package: cache.join(format!("{key}.package.part")),
            refused: cache.join(format!("{key}.refused.json")),
            lock: cache.join(format!("{key}.lock")),
        }
    }

    /// Whether the file is there. It has its name only once it was checked; the size is looked at all the same, since
    /// a volume may have been copied by hand.
    pub(crate) fn is_there(&self, wanted: &Wanted) -> bool {
        fs::metadata(&self.file).is_ok_and(|file| {
            file.is_file() && wanted.bytes.is_none_or(|bytes| bytes == file.len())
        })
    }

    /// What to tell an operator whose cache cannot be written.
    pub(crate) fn unwritable(&self, error: io::Error) -> FetchError {
        FetchError::Cache {
            path: self.cache.clone(),
            error,
        }
    }

    /// Takes the lock; says so where another process has it, and waits for that one. The lock ends with the file
    /// handle, and so with the process, however that ends.
    pub(crate) async fn lock(&self, tell: &mut dyn FnMut(Progress)) -> Result<File, FetchError> {
        fs::create_dir_all(&self.cache).map_err(|error| self.unwritable(error))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.lock)
            .map_err(|error| self.unwritable(error))?;
        let mut is_told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) => {
                    if !is_told {
                        tell(Progress::Waiting);
                        is_told = true;
                    }
                    tokio::time::sleep(LOCK_LOOK).await;
                }
                Err(TryLockError::Error(error)) => return Err(self.unwritable(error)),
            }
        }
    }

    /// Gives the whole and checked file its name.
    pub(crate) fn install(&self) -> Result<(), FetchError> {
        let moved = || {
            File::open(&self.partial)?.sync_all()?;
            fs::create_dir_all(&self.folder)?;
            fs::rename(&self.partial, &self.file)?;
            remove(&sidecar_of(&self.partial));
            remove(&self.refused);
            // The name must survive a crash as well as the bytes.
            File::open(&self.folder)?.sync_all()
        };
        moved().map_err(|error| self.unwritable(error))
    }

    /// Refuses where there is not enough room for so many more bytes and the reserve.
    pub(crate) fn check_room(&self, bytes: u64, reserve_bytes: u64) -> Result<(), FetchError> {
        let needed = bytes.saturating_add(reserve_bytes);
        // Some network file systems do not say; then the writes will.
        let Ok(free) = free_bytes(&self.cache) else {
            return Ok(());
        };
        if bytes > 0 && needed > free {
            return Err(FetchError::DiskFull {
                path: self.cache.clone(),
                needed,
                free,
            });
        }
        Ok(())
    }

    /// What a failed write means, with so many bytes still to come.
    pub(crate) fn write_failed(&self, error: io::Error, missing: u64) -> FetchError {
        let is_full = [
            ErrorKind::StorageFull,
            ErrorKind::QuotaExceeded,
            ErrorKind::FileTooLarge,
        ]
        .contains(&error.kind());
        if !is_full {
            return self.unwritable(error);
        }
        FetchError::DiskFull {
            path: self.cache.clone(),
            needed: missing,
            free: free_bytes(&self.cache).unwrap_or(0),
        }
    }
}

/// The text beside a partial file.
pub(crate) fn sidecar_of(partial: &Path) -> PathBuf {
    partial.with_added_extension("json")
}

/// Removes a partial file and the text beside it.
pub(crate) fn discard(partial: &Path) {
    remove(partial);
    remove(&sidecar_of(partial));
}

/// Removes a file that may be there. One that cannot be removed is in the way later, and is told of then.
pub(crate) fn remove(path: &Path) {
    drop(fs::remove_file(path));
}

/// The SHA-256 of a file, in lower-case hexadecimal digits.
pub(crate) fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    loop {
        let count = file.read(&mut buffer)?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else {
            return Ok(hex::encode(hash.finalize()));
        };
        hash.update(part);
    }
}
