//! What the tests fetch, and how.

use std::path::PathBuf;
use std::time::Duration;

use model_files::{FetchError, FileUrl, Progress, Settings, Wanted, fetch};
use sha2::{Digest as _, Sha256};

use crate::folder::Folder;
use crate::host::Host;

pub(crate) const MIB: u64 = 1 << 20;

/// Bytes that are nowhere the same for long.
pub(crate) fn weights(bytes: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    };
    let count = usize::try_from(bytes / 4).expect("small");
    std::iter::repeat_with(next).take(count).flatten().collect()
}

pub(crate) fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub(crate) fn wanted(host: &Host, path: &str, sha256: Option<&str>) -> Wanted {
    let url = FileUrl::parse(&host.url(path)).expect("an address");
    Wanted::of_url(&url, sha256)
}

/// Small pieces and short pauses, and no reserve: the disks here are small.
pub(crate) fn settings(folder: &Folder) -> Settings {
    Settings {
        piece_bytes: MIB,
        save_bytes: MIB,
        reserve_bytes: 0,
        tries: 4,
        pause: Duration::from_millis(1),
        ..Settings::new(folder.path().to_owned())
    }
}

/// Fetches and returns what was told.
pub(crate) async fn told(
    wanted: &Wanted,
    settings: &Settings,
) -> (Result<PathBuf, FetchError>, Vec<Progress>) {
    let mut told = Vec::new();
    let result = fetch(wanted, settings, &mut |progress| told.push(progress)).await;
    (result, told)
}

/// Fetches some of it and is given up, as by a process that ends; then the bytes that lie there are turned over.
pub(crate) async fn leave_damaged(host: &Host, wanted: &Wanted, settings: &Settings) {
    host.gate_anew(2 * MIB);
    let stop = tokio::sync::Notify::new();
    let mut tell = |progress| {
        if matches!(progress, Progress::Saved { .. }) {
            stop.notify_one();
        }
    };
    tokio::select! {
        _ = fetch(wanted, settings, &mut tell) => panic!("it cannot end"),
        () = stop.notified() => {}
    }
    let part = format!("{}.part", wanted.folder());
    let path = settings.cache.join(part);
    // All of them, since what was not brought yet is brought later.
    let mut bytes = std::fs::read(&path).expect("the part");
    for byte in &mut bytes {
        *byte = !*byte;
    }
    std::fs::write(&path, bytes).expect("written");
    host.gate_anew(u64::MAX);
}
