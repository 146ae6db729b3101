//! Which bytes of a file are there, and which piece to ask for next.

use std::collections::VecDeque;
use std::ops::Range;

/// Bytes of one file: ranges that do not touch, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Reads them from pairs. None where they are not in order, touch, are empty or go beyond `bytes`.
    pub fn from_pairs(pairs: &[(u64, u64)], bytes: u64) -> Option<Self> {
        let mut end = None;
        for &(from, to) in pairs {
            if from >= to || to > bytes || end.is_some_and(|end| from <= end) {
                return None;
            }
            end = Some(to);
        }
        Some(Self(pairs.iter().map(|&(from, to)| from..to).collect()))
    }

    /// As pairs of first byte and the byte after the last.
    pub fn to_pairs(&self) -> Vec<(u64, u64)> {
        self.0
            .iter()
            .map(|range| (range.start, range.end))
            .collect()
    }

    /// How many bytes they are together.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Adds bytes, whether they were there or not.
    pub fn insert(&mut self, added: Range<u64>) {
        if added.is_empty() {
            return;
        }
        let from = self.0.partition_point(|range| range.end < added.start);
        let to = self.0.partition_point(|range| range.start <= added.end);
        let touched = self.0.get(from..to).unwrap_or_default();
        let start = touched
            .first()
            .map_or(added.start, |range| range.start.min(added.start));
        let end = touched
            .last()
            .map_or(added.end, |range| range.end.max(added.end));
        self.0.splice(from..to, std::iter::once(start..end));
    }

    /// What is missing of a file of so many bytes, cut into pieces of at most `piece_bytes`, in order.
    pub fn missing(&self, bytes: u64, piece_bytes: u64) -> VecDeque<Range<u64>> {
        let mut pieces = VecDeque::new();
        let mut at = 0;
        let end_of_file = bytes..bytes;
        for range in self.0.iter().chain(std::iter::once(&end_of_file)) {
            while at < range.start {
                let to = range.start.min(at.saturating_add(piece_bytes.max(1)));
                pieces.push_back(at..to);
                at = to;
            }
            at = range.end;
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_touches_becomes_one_and_pieces_fill_the_gaps() {
        let mut ranges = Ranges::default();
        for range in [10..20, 30..40, 20..25, 5..5, 28..30] {
            ranges.insert(range);
        }
        assert_eq!(ranges.to_pairs(), [(10, 25), (28, 40)]);
        assert_eq!(ranges.bytes(), 27);
        assert_eq!(
            ranges.missing(45, 4),
            [0..4, 4..8, 8..10, 25..28, 40..44, 44..45]
        );
    }

    #[test]
    fn pairs_that_cannot_be_are_refused() {
        for pairs in [
            vec![(0, 0)],
            vec![(5, 4)],
            vec![(0, 11)],
            vec![(0, 5), (5, 6)],
            vec![(4, 6), (0, 2)],
        ] {
            assert_eq!(Ranges::from_pairs(&pairs, 10), None, "{pairs:?}");
        }
        assert!(Ranges::from_pairs(&[(0, 5), (6, 10)], 10).is_some());
    }

    proptest! {
        #[test]
        fn there_and_missing_are_the_whole_file_in_any_order(
            added in proptest::collection::vec((0u64..200, 0u64..40), 0..20),
            piece in 1u64..50,
        ) {
            let mut ranges = Ranges::default();
            let mut bytes = vec![false; 240];
            for (from, length) in added {
                ranges.insert(from..from + length);
                bytes[usize::try_from(from).unwrap()..usize::try_from(from + length).unwrap()].fill(true);
            }
            let there = bytes.iter().filter(|there| **there).count();
            prop_assert_eq!(ranges.bytes(), there as u64);
            prop_assert_eq!(&Ranges::from_pairs(&ranges.to_pairs(), 240), &Some(ranges.clone()));
            for range in ranges.missing(240, piece) {
                prop_assert!(range.end - range.start <= piece);
                for index in range {
                    let byte = &mut bytes[usize::try_from(index).unwrap()];
                    prop_assert!(!*byte);
                    *byte = true;
                }
            }
            prop_assert!(bytes.iter().all(|byte| *byte));
        }
    }
}
