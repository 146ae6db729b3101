//! Whether a rig that starts gets anywhere: a state that it was not in before, or bytes that move. One that does neither
//! for long will not serve, however long one waits: it runs the wrong program, its relay is not there, its download hangs.
//! Bytes are counted twice, since each count has its gaps: the engine's counters know no network on the host's own, and the
//! rig's own words know none while it loads.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::ContainerStatsResponse;
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::StreamExt as _;

use crate::health::state;

/// What `/healthz` says while bytes are what matters: the model comes over the network, or from the disk.
const BYTES_MATTER: [&str; 2] = ["fetching", "loading"];

/// Less than this is a network's own noise, and no download.
const BYTES_MIN: u64 = 64 << 10;

/// How the rig says that another one fetches the same file, and that it waits for that. Whether the other one gets on is
/// the other one's matter: no byte of it is counted here.
const OTHER_FETCHES: &str = "another process is fetching it";

/// How often the engine is asked for its counters.
const COUNT: Duration = Duration::from_secs(5);

/// States beyond these count as none: a health check that says something else each time gets nowhere either.
const STATES_MAX: usize = 1_000;

/// What is known of a rig's progress.
#[derive(Debug)]
pub(crate) struct Progress {
    states: BTreeSet<String>,
    bytes: Option<u64>,
    fetched: Option<u64>,
    last: Instant,
    counted: Instant,
}

impl Progress {
    /// Of one that starts now.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            states: BTreeSet::new(),
            bytes: None,
            fetched: None,
            last: now,
            counted: now,
        }
    }

    /// How long nothing has changed, after a look at what it does.
    pub(crate) async fn still(&mut self, docker: &Docker, id: &str, doing: &str) -> Duration {
        let now = Instant::now();
        self.state(now, state(doing));
        self.said(now, doing);
        if BYTES_MATTER.iter().any(|word| doing.starts_with(word))
            && now.duration_since(self.counted) >= COUNT
        {
            self.counted = now;
            let moved = moved(docker, id).await;
            self.moved(now, moved);
        }
        now.duration_since(self.last)
    }

    /// A state counts once: one that ends and begins again and again gets nowhere.
    fn state(&mut self, now: Instant, doing: &str) {
        if self.states.len() < STATES_MAX && self.states.insert(doing.to_owned()) {
            self.last = now;
        }
    }

    /// Of the numbers in what it says, only the bytes that are there count: a rate that falls to nothing changes, too.
    fn said(&mut self, now: Instant, doing: &str) {
        let bytes = fetched(doing);
        if doing.ends_with(OTHER_FETCHES)
            || bytes.is_some_and(|bytes| has_grown(&mut self.fetched, bytes))
        {
            self.last = now;
        }
    }

    /// What cannot be counted is not held against it.
    fn moved(&mut self, now: Instant, bytes: Option<u64>) {
        if bytes.is_none_or(|bytes| has_grown(&mut self.bytes, bytes)) {
            self.last = now;
        }
    }
}

/// Whether a count is past the noise above what it was when this was last so, or is the first.
fn has_grown(count: &mut Option<u64>, now: u64) -> bool {
    match *count {
        Some(before) if now >= before && now - before < BYTES_MIN => false,
        // It begins again with a restart or the next file, which is no progress.
        Some(before) if now < before => {
            *count = Some(now);
            false
        }
        Some(_) | None => {
            *count = Some(now);
            true
        }
    }
}

/// The bytes that are there, as far as `fetching: model.gguf, 200 MB of 1.0 GB (20 %), …` tells them.
fn fetched(doing: &str) -> Option<u64> {
    let line = doing.strip_prefix("fetching: ")?;
    // The first part is the file's name.
    line.split(", ").skip(1).find_map(in_bytes)
}

/// `1.5 GB`, alone or `of` something.
fn in_bytes(part: &str) -> Option<u64> {
    let mut words = part.split(' ');
    let (number, unit) = (words.next()?, words.next()?);
    if words.next().is_some_and(|word| word != "of") {
        return None;
    }
    let unit = match unit {
        "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let (whole, tenths): (u64, u8) = (whole.parse().ok()?, tenths.parse().ok()?);
    Some(
        whole
            .saturating_mul(unit)
            .saturating_add(unit / 10 * u64::from(tenths)),
    )
}

/// What it has received, read and written so far, where the engine counts either.
async fn moved(docker: &Docker, id: &str) -> Option<u64> {
    let options = StatsOptionsBuilder::new()
        .stream(false)
        .one_shot(true)
        .build();
    let mut stream = Box::pin(docker.stats(id, Some(options)));
    sum(&stream.next().await?.ok()?)
}

fn sum(stats: &ContainerStatsResponse) -> Option<u64> {
    let networks = stats.networks.as_ref();
    let received = networks.map(|all| all.values().filter_map(|one| one.rx_bytes).sum::<u64>());
    let disk = stats.blkio_stats.as_ref();
    let disk = disk.and_then(|disk| disk.io_service_bytes_recursive.as_ref());
    let disk = disk.map(|all| all.iter().filter_map(|one| one.value).sum::<u64>());
    match (received, disk) {
        (None, None) => None,
        (received, disk) => Some(received.unwrap_or(0).saturating_add(disk.unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::{ContainerBlkioStatEntry, ContainerBlkioStats, ContainerNetworkStats};
    use std::collections::HashMap;

    /// How long it has been still after each step, in seconds; a step a second.
    fn still<T>(steps: &[T], look: impl Fn(&mut Progress, Instant, &T)) -> Vec<u64> {
        let begun = Instant::now();
        let mut progress = Progress::new(begun);
        let seconds = steps.iter().zip(1..).map(|(step, second)| {
            let now = begun + Duration::from_secs(second);
            look(&mut progress, now, step);
            now.duration_since(progress.last).as_secs()
        });
        seconds.collect()
    }

    #[test]
    fn a_new_state_is_progress_and_one_that_comes_again_is_not() {
        let steps = [
            "loading",
            "loading",
            "restarting",
            "loading",
            "restarting",
            "connecting",
        ];
        let still = still(&steps, |progress, now, doing| progress.state(now, doing));
        assert_eq!(still, [0, 1, 0, 1, 2, 0]);
    }

    #[test]
    fn bytes_are_progress_unless_they_are_noise_or_counted_anew() {
        const MANY: u64 = BYTES_MIN;
        let counts = [0, MANY, MANY + 9, 2 * MANY + 9, 5, 9, MANY + 5].map(Some);
        let look = |progress: &mut Progress, now, bytes: &Option<u64>| progress.moved(now, *bytes);
        assert_eq!(still(&counts, look), [0, 0, 1, 0, 1, 2, 0]);
        assert_eq!(still(&[None; 3], look), [0, 0, 0]);
    }

    #[test]
    fn a_download_gets_on_by_the_bytes_that_it_tells() {
        let steps = [
            "fetching: m.gguf, 1.1 GB of 4.0 GB (27 %), 9.0 MB/s, 5 min 22 s left",
            // The engine counts nothing here, and a rate alone is no progress.
            "fetching: m.gguf, 1.1 GB of 4.0 GB (27 %), 8.0 MB/s, 6 min 2 s left",
            "fetching: m.gguf, 1.2 GB of 4.0 GB (30 %), 8.0 MB/s, 5 min 50 s left",
            "fetching: m.gguf, trying again: the host was silent",
            "fetching: m.gguf, 1.2 GB of 4.0 GB (30 %), 0 B/s",
            "fetching: m.gguf, 1.3 GB, 1.0 MB/s",
            // The next file.
            "fetching: eyes.gguf, 1.0 MB, 1.0 MB/s",
            "fetching: eyes.gguf, 2.0 MB, 1.0 MB/s",
            "fetching: eyes.gguf, checking 9.9 MB",
            "loading",
        ];
        let still = still(&steps, |progress, now, doing| progress.said(now, doing));
        assert_eq!(still, [0, 1, 0, 1, 2, 0, 1, 0, 1, 2]);
    }

    #[test]
    fn a_rig_that_waits_for_the_download_of_another_is_not_still() {
        let waits = "fetching: model.gguf, another process is fetching it";
        let steps = [waits, waits, waits, "connecting", "connecting"];
        let still = still(&steps, |progress, now, doing| progress.said(now, doing));
        assert_eq!(still, [0, 0, 0, 1, 2]);
    }

    #[test]
    fn bytes_are_read_as_the_rig_writes_them() {
        for (part, bytes) in [
            ("0 B", Some(0)),
            ("1.5 kB", Some(1_500)),
            ("98.3 MB of 1.0 GB (9 %)", Some(98_300_000)),
            ("18.5 GB", Some(18_500_000_000)),
            ("10.0 MB/s", None),
            ("1 min 20 s left", None),
            ("999999999999999999 TB", Some(u64::MAX)),
            ("99999999999999999999 TB", None),
            ("-1 B", None),
            ("", None),
        ] {
            assert_eq!(in_bytes(part), bytes, "{part}");
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_network_and_the_disk() {
        assert_eq!(sum(&ContainerStatsResponse::default()), None);
        let network = ContainerNetworkStats {
            rx_bytes: Some(7),
            ..ContainerNetworkStats::default()
        };
        let disk = ContainerBlkioStatEntry {
            value: Some(5),
            ..ContainerBlkioStatEntry::default()
        };
        let stats = ContainerStatsResponse {
            networks: Some(HashMap::from([("eth0".to_owned(), network)])),
            blkio_stats: Some(ContainerBlkioStats {
                io_service_bytes_recursive: Some(vec![disk.clone(), disk]),
                ..ContainerBlkioStats::default()
            }),
            ..ContainerStatsResponse::default()
        };
        assert_eq!(sum(&stats), Some(17));
    }
}
