//! Whether a rig that starts gets anywhere: a state that it was not in before, or bytes that move. One that does neither
//! for long will not serve, however long one waits: it runs the wrong program, its relay is not there, its download hangs.

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

/// How often the engine is asked for its counters.
const COUNT: Duration = Duration::from_secs(5);

/// States beyond these count as none: a health check that says something else each time gets nowhere either.
const STATES_MAX: usize = 1_000;

/// What is known of a rig's progress.
#[derive(Debug)]
pub(crate) struct Progress {
    states: BTreeSet<String>,
    bytes: Option<u64>,
    last: Instant,
    counted: Instant,
}

impl Progress {
    /// Of one that starts now.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            states: BTreeSet::new(),
            bytes: None,
            last: now,
            counted: now,
        }
    }

    /// How long nothing has changed, after a look at what it does.
    pub(crate) async fn still(&mut self, docker: &Docker, id: &str, doing: &str) -> Duration {
        let now = Instant::now();
        // The numbers in it are not looked at: a rate that falls to nothing changes them, too.
        self.state(now, state(doing));
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

    /// What cannot be counted is not held against it.
    fn moved(&mut self, now: Instant, bytes: Option<u64>) {
        let Some(bytes) = bytes else {
            self.last = now;
            return;
        };
        match self.bytes {
            Some(before) if bytes >= before && bytes - before < BYTES_MIN => {}
            // Counters begin again with a restart, which is no progress.
            Some(before) if bytes < before => self.bytes = Some(bytes),
            Some(_) | None => {
                self.bytes = Some(bytes);
                self.last = now;
            }
        }
    }
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
