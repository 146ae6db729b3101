//! What a caller hears while a file is fetched, and how that is put into words. No clock: times are arguments.

use std::path::PathBuf;

/// One step of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Another process is fetching the same file; this one waits for it.
    Waiting,
    /// Bytes begin to come.
    Begun {
        /// What is there from an earlier try.
        have: u64,
        /// The whole file, where the other side says so.
        total: Option<u64>,
        /// How many connections at most.
        connections: u32,
    },
    /// Bytes came and were written.
    Received {
        /// All that is there now.
        have: u64,
        /// The whole file, where the other side says so.
        total: Option<u64>,
    },
    /// What is there is now safe from a crash of this machine.
    Saved {
        /// All that will be found again.
        have: u64,
    },
    /// Something went wrong, and is tried again.
    Retrying {
        /// What went wrong.
        why: String,
        /// The pause before.
        wait_ms: u64,
    },
    /// What an earlier try had left is of no use.
    Discarded,
    /// The whole file is read once more and hashed.
    Checking {
        /// Its size.
        bytes: u64,
    },
    /// It is taken out of its archive.
    Extracting,
    /// It is there.
    Finished {
        /// Where.
        path: PathBuf,
    },
}

/// Bytes as people read them: three digits or so and a unit.
pub fn in_units(bytes: u64) -> String {
    let mut unit = "B";
    let mut whole = bytes;
    let mut tenths = 0;
    for larger in ["kB", "MB", "GB", "TB"] {
        if whole < 1000 {
            break;
        }
        tenths = whole % 1000 / 100;
        whole /= 1000;
        unit = larger;
    }
    if unit == "B" || whole >= 100 {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{tenths} {unit}")
    }
}

/// Seconds as people read them.
fn in_time(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// How far a fetch is at one moment. Its text is what people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Bytes that are there.
    pub have: u64,
    /// Bytes of the whole file, where the other side says so.
    pub total: Option<u64>,
    /// Bytes that came in a second, on average since the fetch began.
    pub bytes_per_second: u64,
    /// Seconds until the rest is there at this rate. None where the size is unknown or nothing comes.
    pub seconds_left: Option<u64>,
}

impl std::fmt::Display for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", in_units(self.have))?;
        if let Some(total) = self.total.filter(|total| *total > 0) {
            let percent = self.have.saturating_mul(100) / total;
            write!(f, " of {} ({percent} %)", in_units(total))?;
        }
        write!(f, ", {}/s", in_units(self.bytes_per_second))?;
        match self.seconds_left {
            Some(seconds) => write!(f, ", {} left", in_time(seconds)),
            None => Ok(()),
        }
    }
}

/// Measures how fast a fetch is, and says it now and then for a log.
#[derive(Debug)]
pub struct Meter {
    interval_ms: u64,
    begun_ms: u64,
    begun_bytes: u64,
    said_ms: u64,
}

impl Meter {
    /// Begins at a time with what is already there; says something every `interval_ms`.
    pub fn new(now_ms: u64, have: u64, interval_ms: u64) -> Self {
        Self {
            interval_ms,
            begun_ms: now_ms,
            begun_bytes: have,
            said_ms: now_ms,
        }
    }

    /// How far it is now.
    pub fn pace(&self, now_ms: u64, have: u64, total: Option<u64>) -> Pace {
        let passed_ms = now_ms.saturating_sub(self.begun_ms).max(1);
        let came = have.saturating_sub(self.begun_bytes);
        let bytes_per_second = came.saturating_mul(1000) / passed_ms;
        Pace {
            have,
            total,
            bytes_per_second,
            seconds_left: total
                .and_then(|total| total.saturating_sub(have).checked_div(bytes_per_second)),
        }
    }

    /// The line for now, if it is time for one: how much is there, how fast it comes, how long it will take.
    pub fn line(&mut self, now_ms: u64, have: u64, total: Option<u64>) -> Option<String> {
        if now_ms.saturating_sub(self.said_ms) < self.interval_ms {
            return None;
        }
        self.said_ms = now_ms;
        Some(self.pace(now_ms, have, total).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_people_read_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (98_362_432, "98.3 MB"),
            (857_739_168, "857 MB"),
            (18_556_686_752, "18.5 GB"),
        ] {
            assert_eq!(in_units(bytes), text);
        }
    }

    #[test]
    fn a_log_gets_a_line_every_ten_seconds_with_rate_and_time_left() {
        let mut meter = Meter::new(5_000, 100_000_000, 10_000);
        let total = Some(1_000_000_000);
        assert_eq!(meter.line(14_999, 190_000_000, total), None);
        assert_eq!(
            meter.line(15_000, 200_000_000, total).as_deref(),
            Some("200 MB of 1.0 GB (20 %), 10.0 MB/s, 1 min 20 s left")
        );
        assert_eq!(meter.line(15_001, 210_000_000, total), None);
        assert_eq!(
            meter.line(25_000, 300_000_000, None).as_deref(),
            Some("300 MB, 10.0 MB/s")
        );
    }

    #[test]
    fn a_stalled_download_promises_no_time() {
        let mut meter = Meter::new(0, 50, 1_000);
        assert_eq!(
            meter.line(1_000, 50, Some(100)).as_deref(),
            Some("50 B of 100 B (50 %), 0 B/s")
        );
        assert_eq!(in_time(7_380), "2 h 3 min");
    }
}
