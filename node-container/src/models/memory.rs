//! How much memory a model may use here: the graphics cards' where there are any, else what the system and its control
//! groups leave free.

use std::path::Path;

use llama_cpp_2::{LlamaBackendDevice, LlamaBackendDeviceType};
use model_files::need::Need;

use crate::engine::llama::{LoadError, devices};
use crate::engine::reordered::Orders;

/// Memory for one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Where it is.
    pub device: String,
    /// Bytes that nobody uses.
    pub free: u64,
    /// All of it.
    pub total: u64,
    /// Graphics cards that share the model; each needs its own scratch. None: the processor has it.
    pub parts: u64,
    /// Whether the processor computes, so that it may keep weights a second time, in an order that suits it.
    pub is_processor: bool,
}

impl Memory {
    /// The scratch on all devices together.
    pub fn scratch(&self, need: &Need) -> u64 {
        need.scratch.saturating_mul(self.parts.max(1))
    }

    /// All that the model needs here.
    pub fn needed(&self, need: &Need) -> u64 {
        let more = self.scratch(need).saturating_sub(need.scratch);
        need.total().saturating_add(more)
    }

    /// In which orders weights are kept a second time here. `HELIOGRAPH_PACKED=0` takes ours out of llama.cpp's list
    /// itself.
    pub fn orders(&self) -> Orders {
        if self.is_processor {
            Orders::All
        } else {
            Orders::None
        }
    }

    /// What may come to it in this memory, at most. What is kept of finished work lies in main memory.
    pub fn later_max(&self, need: &Need) -> u64 {
        if self.parts > 0 { 0 } else { need.later_max() }
    }

    /// Whether a model fits. A tenth more than the sum must be free: the sum is known to be that close, and a driver or
    /// another program wants some too. So must be what may come to it.
    pub fn fits(&self, need: &Need) -> bool {
        let needed = self.needed(need);
        let most = needed
            .saturating_add(needed / 10)
            .saturating_add(self.later_max(need));
        most <= self.free
    }
}

/// Looks at this machine.
pub(crate) fn read() -> Result<Memory, LoadError> {
    let devices = devices()?;
    Ok(of_cards(&devices).unwrap_or_else(|| of_system(&devices)))
}

/// All graphics cards together, since llama.cpp spreads layers over them. Integrated ones share the system's memory.
fn of_cards(devices: &[LlamaBackendDevice]) -> Option<Memory> {
    let cards: Vec<&LlamaBackendDevice> = devices
        .iter()
        .filter(|device| device.device_type == LlamaBackendDeviceType::Gpu)
        .collect();
    let sum = |bytes: fn(&LlamaBackendDevice) -> usize| -> u64 {
        cards.iter().map(|device| bytes(device) as u64).sum()
    };
    let total = sum(|device| device.memory_total);
    if total == 0 {
        return None;
    }
    let names: Vec<&str> = cards.iter().map(|device| &device.description[..]).collect();
    Some(Memory {
        device: names.join(" + "),
        free: sum(|device| device.memory_free),
        total,
        parts: cards.len() as u64,
        is_processor: false,
    })
}

fn of_system(devices: &[LlamaBackendDevice]) -> Memory {
    let first = devices.first();
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let (mut free, mut total) = meminfo(&text).unwrap_or_else(|| {
        first.map_or((0, 0), |device| {
            (device.memory_free as u64, device.memory_total as u64)
        })
    });
    if let Some((left, limit)) =
        control_groups(Path::new("/sys/fs/cgroup"), Path::new("/proc/self/cgroup"))
    {
        free = free.min(left);
        total = total.min(limit);
    }
    Memory {
        device: first.map_or_else(|| "CPU".to_owned(), |device| device.description.clone()),
        free,
        total,
        parts: 0,
        // An integrated card has no memory of its own, but it computes.
        is_processor: !devices
            .iter()
            .any(|device| device.device_type == LlamaBackendDeviceType::IntegratedGpu),
    }
}

/// Available and total bytes.
fn meminfo(text: &str) -> Option<(u64, u64)> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kib << 10)
    };
    Some((field("MemAvailable:")?, field("MemTotal:")?))
}

/// What the tightest control group above this process leaves, and its limit. Both versions of control groups; file
/// pages count as free, since the kernel gives them up when it has to.
fn control_groups(root: &Path, own: &Path) -> Option<(u64, u64)> {
    let own = std::fs::read_to_string(own).unwrap_or_default();
    let path = own
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or("/");
    let inner = root.join(path.trim_start_matches('/'));
    let second = inner
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
        .map(|folder| {
            (
                folder.to_owned(),
                ["memory.max", "memory.current", "inactive_file "],
            )
        });
    let first = std::iter::once((
        root.join("memory"),
        [
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file ",
        ],
    ));
    second
        .chain(first)
        .filter_map(|(folder, names)| control_group(&folder, names))
        .min()
}

fn control_group(folder: &Path, [limit, used, cached]: [&str; 3]) -> Option<(u64, u64)> {
    let number = |name: &str| -> Option<u64> {
        let text = std::fs::read_to_string(folder.join(name)).ok()?;
        text.trim().parse().ok()
    };
    let limit = number(limit)?;
    let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cached: u64 = stat
        .lines()
        .find_map(|line| line.strip_prefix(cached)?.trim().parse().ok())
        .unwrap_or(0);
    let used = number(used)?.saturating_sub(cached);
    Some((limit.saturating_sub(used), limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       16000 kB\nMemFree:   1 kB\nMemAvailable:    8000 kB\n";
        assert_eq!(meminfo(text), Some((8000 << 10, 16000 << 10)));
        assert_eq!(meminfo("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn the_tightest_control_group_counts_whatever_its_version() {
        let root = std::env::temp_dir().join(format!("heliograph-groups-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        let own = root.join("own");
        assert_eq!(control_groups(&root, &own), None);

        write("own", "0::/outer/inner\n");
        write("outer/memory.max", "1000\n");
        write("outer/memory.current", "900\n");
        write("outer/memory.stat", "anon 5\ninactive_file 300\n");
        write("outer/inner/memory.max", "max\n");
        write("outer/inner/memory.current", "5\n");
        assert_eq!(control_groups(&root, &own), Some((400, 1000)));

        write("memory/memory.limit_in_bytes", "500\n");
        write("memory/memory.usage_in_bytes", "200\n");
        assert_eq!(control_groups(&root, &own), Some((300, 500)));
        std::fs::remove_dir_all(root).expect("removed");
    }
}
