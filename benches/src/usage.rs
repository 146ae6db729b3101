//! What a process and its descendants cost, from `/proc`.

use std::fs;

/// Cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a processor, user and system.
    pub cpu_ns: u64,
    /// The most resident memory since [`forget_peak`], summed over the processes.
    pub peak_kib: u64,
}

/// A process and everything that it started.
pub fn tree(root: u32) -> Vec<u32> {
    let mut pairs = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The second field is the program's name in parentheses, and may hold anything.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        pairs.push((pid, parent.unwrap_or(0)));
    }
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(parent) = tree.get(next).copied() {
        tree.extend(
            pairs
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    tree
}

/// Adds up what these processes cost. The scheduler's own count is used, whose unit is the nanosecond; `utime` and
/// `stime` count the same in ticks of 10 ms, too coarse for a run of one chat.
pub fn of(pids: &[u32]) -> Usage {
    let mut usage = Usage::default();
    for pid in pids {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            usage.cpu_ns += text
                .split_whitespace()
                .next()
                .and_then(|word| word.parse::<u64>().ok())
                .unwrap_or(0);
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        usage.peak_kib += status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0);
    }
    usage
}

/// The peak begins anew. Without the right to say so the peak of the whole life is reported.
pub fn forget_peak(pids: &[u32]) {
    for pid in pids {
        drop(fs::write(format!("/proc/{pid}/clear_refs"), "5"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_cost() {
        let usage = of(&tree(std::process::id()));
        assert!(usage.cpu_ns > 0 && usage.peak_kib > 0);
    }
}
