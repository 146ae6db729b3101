//! What happened, folded into a hash; the last lines in words where somebody wants to read them.

use std::collections::VecDeque;

use crate::Millis;

/// A line's length: requests are long and say little.
const LINE_BYTES_MAX: usize = 400;

/// The record of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    lines: VecDeque<String>,
    lines_max: usize,
}

impl Trace {
    /// An empty record that keeps so many lines; words cost more than the simulation.
    pub(crate) const fn new(lines_max: usize) -> Self {
        Self {
            hash: 0xCBF2_9CE4_8422_2325,
            events: 0,
            lines: VecDeque::new(),
            lines_max,
        }
    }

    /// Folds an event.
    pub(crate) fn event(&mut self, at: Millis, what: u8, who: u64, content: &[u8]) {
        self.events += 1;
        self.fold(at);
        self.fold(u64::from(what) << 56 | (who & 0x00FF_FFFF_FFFF_FFFF));
        let (words, rest) = content.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.fold(u64::from_le_bytes(last));
        self.fold(content.len() as u64);
    }

    fn fold(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(23) ^ word).wrapping_mul(0x9FB2_1C65_1E98_DF25);
    }

    /// Notes a line, if anybody wants to read it.
    pub(crate) fn line(&mut self, at: Millis, words: impl FnOnce() -> String) {
        if self.lines_max == 0 {
            return;
        }
        if self.lines.len() == self.lines_max {
            self.lines.pop_front();
        }
        let mut line = format!("{at:>8} {}", words());
        if line.len() > LINE_BYTES_MAX {
            line.truncate(line.floor_char_boundary(LINE_BYTES_MAX));
            line.push('…');
        }
        self.lines.push_back(line);
    }

    /// The hash by now.
    pub(crate) const fn hash(&self) -> u64 {
        self.hash ^ (self.hash >> 29)
    }

    /// Events by now.
    pub(crate) const fn events(&self) -> u64 {
        self.events
    }

    /// The last lines.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}
