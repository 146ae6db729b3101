//! Token text that says when it was made.

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` in nanoseconds: the same in every process of a machine.
pub fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}

/// The text of a token that is made now.
pub fn stamp(index: u32) -> String {
    format!("@{}.{index};", now_ns())
}

/// Calls `found(made_ns, index)` for every whole stamp in `text`.
pub fn for_stamps(text: &str, mut found: impl FnMut(u64, u32)) {
    for piece in text.split_inclusive(';') {
        let stamp = piece
            .strip_suffix(';')
            .and_then(|piece| piece.rsplit_once('@'))
            .and_then(|(_, stamp)| stamp.split_once('.'))
            .and_then(|(ns, index)| Some((ns.parse().ok()?, index.parse().ok()?)));
        if let Some((ns, index)) = stamp {
            found(ns, index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_found_in_merged_text_and_broken_ones_are_not() {
        let mut found = Vec::new();
        for_stamps("@5.0;@6.1; tail @bad; @9", |ns, index| {
            found.push((ns, index));
        });
        assert_eq!(found, [(5, 0), (6, 1)]);
    }
}
