//! `stats`: what nodes use of the machine, as the engine measures it.

use anyhow::Result;
use bollard::Docker;
use bollard::models::{ContainerCpuStats, ContainerStatsResponse};
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::cli::StatsOptions;
use crate::engine::{self, explain};
use crate::rigs::{self, Rig};
use crate::voice::{Voice, bytes, table};

/// What a node uses.
#[derive(Debug, Clone, PartialEq)]
struct Usage {
    name: String,
    health: &'static str,
    /// Cores busy, in hundredths.
    cpu_percent: f64,
    memory: u64,
    memory_max: u64,
    received: u64,
    sent: u64,
    processes: u64,
}

/// Shows it, once or every second.
pub(crate) async fn run(voice: Voice, options: &StatsOptions) -> Result<()> {
    let docker = engine::connect().await?;
    let mut lines_before = 0;
    loop {
        let mut all = Vec::new();
        for rig in rigs::named(&docker, &options.names).await? {
            if rig.state() == "running" {
                all.extend(usage(&docker, &rig).await?);
            }
        }
        let values: Vec<Value> = all.iter().map(value).collect();
        let text = text(&all);
        // The table before is drawn over.
        voice.drawn_over(lines_before, &json!({ "rigs": values }), &text);
        lines_before = text.lines().count();
        if options.once || all.is_empty() {
            return Ok(());
        }
    }
}

/// One look takes the engine about a second: it measures twice.
async fn usage(docker: &Docker, rig: &Rig) -> Result<Option<Usage>> {
    let options = StatsOptionsBuilder::new().stream(false).build();
    let mut stream = Box::pin(docker.stats(&rig.id, Some(options)));
    match stream.next().await {
        Some(Ok(stats)) => Ok(Some(Usage::of(rig.name.clone(), rig.health(), &stats))),
        // It has ended just now.
        Some(Err(error)) if engine::is_missing(&error) || engine::is_conflict(&error) => Ok(None),
        Some(Err(error)) => Err(explain(error)),
        None => Ok(None),
    }
}

impl Usage {
    fn of(name: String, health: &'static str, stats: &ContainerStatsResponse) -> Self {
        let memory = stats.memory_stats.as_ref();
        let networks = stats.networks.as_ref();
        let sum = |bytes: fn(&bollard::models::ContainerNetworkStats) -> Option<u64>| {
            networks.map_or(0, |all| all.values().filter_map(bytes).sum())
        };
        Self {
            name,
            health,
            cpu_percent: cpu_percent(stats.precpu_stats.as_ref(), stats.cpu_stats.as_ref()),
            memory: memory.map_or(0, |memory| {
                // Files that the kernel may drop at any time count as used; a model read from a file is one.
                let cached = memory.stats.as_ref().and_then(|stats| {
                    stats
                        .get("inactive_file")
                        .or_else(|| stats.get("total_inactive_file"))
                });
                memory
                    .usage
                    .unwrap_or(0)
                    .saturating_sub(cached.copied().unwrap_or(0))
            }),
            memory_max: memory.and_then(|memory| memory.limit).unwrap_or(0),
            received: sum(|network| network.rx_bytes),
            sent: sum(|network| network.tx_bytes),
            processes: stats
                .pids_stats
                .as_ref()
                .and_then(|pids| pids.current)
                .unwrap_or(0),
        }
    }
}

/// How many cores were busy between two looks, in hundredths.
#[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
fn cpu_percent(before: Option<&ContainerCpuStats>, after: Option<&ContainerCpuStats>) -> f64 {
    let used = |stats: Option<&ContainerCpuStats>| stats?.cpu_usage.as_ref()?.total_usage;
    let system = |stats: Option<&ContainerCpuStats>| stats?.system_cpu_usage;
    let (Some(used_before), Some(used_after)) = (used(before), used(after)) else {
        return 0.0;
    };
    let (Some(system_before), Some(system_after)) = (system(before), system(after)) else {
        return 0.0;
    };
    let passed = system_after.saturating_sub(system_before);
    if passed == 0 {
        return 0.0;
    }
    let cores = after
        .and_then(|stats| stats.online_cpus)
        .unwrap_or(1)
        .max(1);
    used_after.saturating_sub(used_before) as f64 / passed as f64 * f64::from(cores) * 100.0
}

fn value(usage: &Usage) -> Value {
    json!({
        "name": usage.name, "health": usage.health, "cpu_percent": (usage.cpu_percent * 10.0).round() / 10.0,
        "memory_bytes": usage.memory, "memory_bytes_max": usage.memory_max,
        "received_bytes": usage.received, "sent_bytes": usage.sent, "processes": usage.processes,
    })
}

fn text(all: &[Usage]) -> String {
    if all.is_empty() {
        return "no node runs on this machine; `heliograph ps` lists those that have ended, `heliograph up rig` starts one"
            .to_owned();
    }
    let head = [
        "NAME", "HEALTH", "CPU", "MEMORY", "OF", "RECEIVED", "SENT", "THREADS",
    ]
    .map(str::to_owned);
    let rows = all.iter().map(|usage| {
        vec![
            usage.name.clone(),
            usage.health.to_owned(),
            format!("{:.0} %", usage.cpu_percent),
            bytes(usage.memory),
            bytes(usage.memory_max),
            bytes(usage.received),
            bytes(usage.sent),
            usage.processes.to_string(),
        ]
    });
    table(
        &std::iter::once(head.to_vec())
            .chain(rows)
            .collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ContainerCpuUsage;

    fn cpu(used: u64, system: u64) -> ContainerCpuStats {
        ContainerCpuStats {
            cpu_usage: Some(ContainerCpuUsage {
                total_usage: Some(used),
                ..ContainerCpuUsage::default()
            }),
            system_cpu_usage: Some(system),
            online_cpus: Some(2),
            ..ContainerCpuStats::default()
        }
    }

    #[test]
    fn one_busy_core_of_two_is_a_hundred_per_cent() {
        let percent = cpu_percent(Some(&cpu(0, 0)), Some(&cpu(1_000, 2_000)));
        assert!((percent - 100.0).abs() < 1e-9, "{percent}");
    }

    #[test]
    fn a_first_look_divides_by_nothing() {
        assert!(cpu_percent(None, Some(&cpu(5, 5))).abs() < f64::EPSILON);
        assert!(cpu_percent(Some(&cpu(5, 5)), Some(&cpu(9, 5))).abs() < f64::EPSILON);
    }
}
