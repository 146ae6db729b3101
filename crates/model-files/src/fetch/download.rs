//! One download: several connections into one file, and a text beside it that says what of it is there.
//!
//! ```text
//! piece ─▶ connection ─▶ write at its offset ─▶ Wrote ─┐
//! piece ─▶ connection ─▶ …                    ─▶ Wrote ─┴▶ coordinator: ranges, progress, sidecar, next piece
//! ```

mod connection;
mod tries;
mod whole;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use reqwest::{Client, Response, StatusCode};
use tokio::sync::mpsc::channel;
use tokio::time::sleep;

use self::connection::{Broken, Connection};
use self::tries::Tries;
use super::Settings;
use crate::cache::{Place, discard, sidecar_of};
use crate::error::FetchError;
use crate::http::{self, Fault};
use crate::progress::Progress;
use crate::ranges::Ranges;
use crate::refused::Refused;
use crate::sidecar::{self, Remote, SIDECAR_BYTES_MAX};

/// A file that changes more often while it is fetched is no file.
const CHANGES_MAX: u32 = 3;

/// Writes that may wait for the coordinator; it is quicker than any disk.
const WROTE_QUEUE: usize = 64;

/// A slow line saves this often, so that a crash costs no more than this much of its time.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct Download<'d> {
    pub(super) client: &'d Client,
    pub(super) settings: &'d Settings,
    pub(super) place: &'d Place,
    pub(super) url: &'d str,
    /// Where the bytes go.
    pub(super) partial: &'d Path,
    pub(super) name: &'d str,
    /// The size that it must have.
    pub(super) bytes: Option<u64>,
    /// Known: then damage shows in the end, whatever the host says about versions.
    pub(super) sha256: Option<&'d str>,
    /// Room that is needed beside the download.
    pub(super) extra_bytes: u64,
    /// What the host said last of its file; known once it was asked.
    pub(super) remote: Option<Remote>,
    /// Some of what lies there was brought by an earlier process.
    pub(super) has_left_over: bool,
    pub(super) tell: &'d mut dyn FnMut(Progress),
}

/// How a try ended that did not fail.
enum Ended {
    Whole,
    /// The remote file is another one by now.
    Changed,
}

/// What the first answer tells.
enum Offer {
    /// Ranges can be asked for.
    Ranges(Remote),
    /// Only the whole can, perhaps of a known size, and of a version with this name.
    Whole(Option<u64>, Option<String>),
}

impl Download<'_> {
    pub(super) async fn run(&mut self) -> Result<(), FetchError> {
        for _ in 0..CHANGES_MAX {
            let ended = match self.offer().await? {
                Some(Offer::Ranges(remote)) => {
                    self.check_size(remote.bytes)?;
                    self.check_known(remote.clone())?;
                    self.ranged(&remote).await?
                }
                Some(Offer::Whole(bytes, validator)) => {
                    if let Some(bytes) = bytes {
                        self.check_size(bytes)?;
                    }
                    self.check_known(Remote {
                        bytes: bytes.unwrap_or(0),
                        validator,
                    })?;
                    self.whole(bytes.or(self.bytes)).await?
                }
                None => Ended::Changed,
            };
            match ended {
                Ended::Whole => return Ok(()),
                Ended::Changed => {
                    (self.tell)(Progress::Discarded);
                    discard(self.partial);
                }
            }
        }
        Err(FetchError::Unsteady {
            host: http::host(self.url),
        })
    }

    fn check_size(&self, found: u64) -> Result<(), FetchError> {
        match self.bytes.filter(|expected| *expected != found) {
            Some(expected) => Err(FetchError::WrongSize {
                name: self.name.to_owned(),
                expected,
                found,
            }),
            None => Ok(()),
        }
    }

    /// Refuses the version that was fetched before and was wrong.
    fn check_known(&mut self, remote: Remote) -> Result<(), FetchError> {
        let path = &self.place.refused;
        let known = Refused::read(path)
            .and_then(|refused| refused.refuses(&remote, self.sha256, (self.name, path)));
        self.remote = Some(remote);
        known.map_or(Ok(()), Err)
    }

    /// Remembers that what was fetched is another file than the one that was meant. Only where every byte was brought by
    /// this process: what an earlier one had left may have been damaged here, and then the host's file is not known to be
    /// wrong.
    pub(super) fn remember(&self, error: &FetchError) {
        if self.has_left_over {
            return;
        }
        let FetchError::WrongHash {
            expected, found, ..
        } = error
        else {
            return;
        };
        let hashes = (&expected[..], &found[..]);
        let refused = self
            .remote
            .as_ref()
            .and_then(|remote| Refused::new(remote, self.sha256, hashes));
        if let Some(refused) = refused {
            refused.write(&self.place.refused);
        }
    }

    /// Asks for one byte, to hear what the host can do and which file this is. None where it has changed its mind.
    async fn offer(&mut self) -> Result<Option<Offer>, FetchError> {
        let mut tries = Tries::new(self.settings, 1);
        loop {
            match http::ask(self.client, self.url, 0, 1).await {
                Ok(response) => return Ok(offer_of(&response)),
                Err(Fault::Changed) => return Ok(None),
                Err(fault) => self.pause(&mut tries, fault).await?,
            }
        }
    }

    /// Says what went wrong and waits, or gives up.
    async fn pause(&mut self, tries: &mut Tries, fault: Fault) -> Result<(), FetchError> {
        let wait = self.after(tries, fault)?;
        sleep(wait).await;
        Ok(())
    }

    /// How long to wait after a fault, or the end.
    fn after(&mut self, tries: &mut Tries, fault: Fault) -> Result<Duration, FetchError> {
        match fault {
            Fault::Refused(status) => Err(FetchError::Refused {
                host: http::host(self.url),
                status,
            }),
            // Handled before by everybody who can begin anew.
            Fault::Changed => Err(FetchError::Unsteady {
                host: http::host(self.url),
            }),
            Fault::Passing { why, pause } => {
                let Some(wait) = tries.next_pause(pause) else {
                    return Err(FetchError::GaveUp {
                        host: http::host(self.url),
                        tries: tries.failed,
                        why,
                    });
                };
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                (self.tell)(Progress::Retrying { why, wait_ms });
                Ok(wait)
            }
        }
    }

    /// What an earlier try has left, if it is of the same file.
    fn left_over(&self, remote: &Remote) -> Ranges {
        let is_whole_length =
            fs::metadata(self.partial).is_ok_and(|file| file.len() == remote.bytes);
        if !is_whole_length {
            return Ranges::default();
        }
        let mut text = String::new();
        let is_read = File::open(sidecar_of(self.partial))
            .and_then(|file| file.take(SIDECAR_BYTES_MAX).read_to_string(&mut text))
            .is_ok();
        if !is_read {
            return Ranges::default();
        }
        sidecar::read(&text, remote, self.sha256.is_some()).unwrap_or_default()
    }

    async fn ranged(&mut self, remote: &Remote) -> Result<Ended, FetchError> {
        let whole = self.left_over(remote);
        self.has_left_over = whole.bytes() > 0;
        if whole.bytes() == 0 && (self.partial.exists() || sidecar_of(self.partial).exists()) {
            (self.tell)(Progress::Discarded);
            discard(self.partial);
        }
        let missing = remote.bytes.saturating_sub(whole.bytes());
        let room = missing.saturating_add(self.extra_bytes);
        self.place.check_room(room, self.settings.reserve_bytes)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.partial)
            .and_then(|file| file.set_len(remote.bytes).map(|()| file))
            .map_err(|error| self.place.write_failed(error, missing))?;
        let mut state = State {
            pieces: whole.missing(remote.bytes, self.settings.piece_bytes),
            saved: whole.bytes(),
            saved_at: Instant::now(),
            whole,
            remote,
            file: &file,
        };
        let connections = if remote.bytes < self.settings.piece_bytes.saturating_mul(2) {
            1
        } else {
            self.settings.connections.max(1)
        };
        (self.tell)(Progress::Begun {
            have: state.saved,
            total: Some(remote.bytes),
            connections,
        });
        let ended = self.pieces(&mut state, connections).await;
        if !matches!(ended, Ok(Ended::Whole | Ended::Changed)) {
            // The error that ended it is the one to tell.
            drop(self.save(&mut state));
        }
        ended
    }

    /// Fills what is missing.
    async fn pieces(
        &mut self,
        state: &mut State<'_>,
        connections: u32,
    ) -> Result<Ended, FetchError> {
        let (wrote, mut written) = channel(WROTE_QUEUE);
        let mut tries = Tries::new(self.settings, connections);
        let mut running = FuturesUnordered::new();
        let mut pause = Duration::ZERO;
        loop {
            while running.len() < usize::try_from(connections).unwrap_or(1)
                && let Some(piece) = state.pieces.pop_front()
            {
                let connection = Connection {
                    client: self.client,
                    url: self.url,
                    remote: state.remote,
                    file: state.file,
                };
                running.push(connection.bring(piece, std::mem::take(&mut pause), wrote.clone()));
            }
            if running.is_empty() && written.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                Some(range) = written.recv() => {
                    tries.failed = 0;
                    self.wrote(state, range)?;
                }
                Some(piece) = running.next() => {
                    if !piece.left.is_empty() {
                        state.pieces.push_front(piece.left);
                    }
                    match piece.broken {
                        None => {}
                        Some(Broken::Fault(Fault::Changed)) => return Ok(Ended::Changed),
                        Some(Broken::Fault(fault)) => pause = self.after(&mut tries, fault)?,
                        Some(Broken::Disk(error)) => {
                            return Err(self.place.write_failed(error, state.missing_bytes()));
                        }
                        Some(Broken::Failed(error)) => return Err(error),
                    }
                }
            }
        }
        self.save(state)?;
        Ok(Ended::Whole)
    }

    fn wrote(&mut self, state: &mut State<'_>, range: Range<u64>) -> Result<(), FetchError> {
        state.whole.insert(range);
        let have = state.whole.bytes();
        (self.tell)(Progress::Received {
            have,
            total: Some(state.remote.bytes),
        });
        let is_time = have.saturating_sub(state.saved) >= self.settings.save_bytes
            || state.saved_at.elapsed() >= SAVE_INTERVAL;
        if is_time {
            self.save(state)?;
        }
        Ok(())
    }

    /// Writes down what is there, once it really is on the disk.
    fn save(&mut self, state: &mut State<'_>) -> Result<(), FetchError> {
        let path = sidecar_of(self.partial);
        let new = path.with_added_extension("part");
        let text = sidecar::write(state.remote, &state.whole);
        let written = || {
            state.file.sync_data()?;
            File::create(&new)?.write_all(text.as_bytes())?;
            fs::rename(&new, &path)
        };
        let written = written();
        written.map_err(|error| self.place.write_failed(error, state.missing_bytes()))?;
        state.saved = state.whole.bytes();
        state.saved_at = Instant::now();
        (self.tell)(Progress::Saved { have: state.saved });
        Ok(())
    }
}

/// What is known while pieces come in.
struct State<'s> {
    remote: &'s Remote,
    file: &'s File,
    pieces: VecDeque<Range<u64>>,
    whole: Ranges,
    /// How many bytes the sidecar knows of.
    saved: u64,
    saved_at: Instant,
}

impl State<'_> {
    fn missing_bytes(&self) -> u64 {
        self.remote.bytes.saturating_sub(self.whole.bytes())
    }
}

/// What the first answer says. None where it makes no sense.
fn offer_of(response: &Response) -> Option<Offer> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        let validator = http::validator(response.headers());
        return Some(Offer::Whole(response.content_length(), validator));
    }
    let (from, _, bytes) = http::content_range(response.headers())?;
    (from == 0 && bytes > 0).then(|| {
        Offer::Ranges(Remote {
            bytes,
            validator: http::validator(response.headers()),
        })
    })
}
