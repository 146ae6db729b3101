//! Merges neighbours until no pair is left that merges: the loop that BPE and SPM share.
//!
//! The pair with the lowest key goes first, of equal ones the leftmost, as in llama.cpp. Parts are a linked list, and
//! pairs lie in a heap; a pair whose parts have changed meanwhile is passed over. With `n` parts there are fewer than
//! `n` merges, each of which adds at most two pairs: O(n log n).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::lookup::NONE;

/// A piece of the text that is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Where it begins, in bytes.
    pub(super) start: u32,
    /// Its length in bytes; 0 once it has been merged into the part before it.
    pub(super) length: u32,
    /// The number of its text, where the caller keeps one.
    pub(super) number: u32,
    before: u32,
    after: u32,
}

/// Two neighbours that merge. Ordered by key, then from left to right; the rest only makes the order total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    key: u32,
    left: u32,
    right: u32,
    length: u32,
    merged: u32,
}

/// Parts and pairs; its memory is used again from word to word.
#[derive(Debug, Clone, Default)]
pub(super) struct Merger {
    parts: Vec<Part>,
    queue: BinaryHeap<Reverse<Pair>>,
    /// Pairs asked for since it was made: what the time depends on.
    pub(super) steps: usize,
}

impl Merger {
    /// Forgets the last word.
    pub(super) fn clear(&mut self) {
        self.parts.clear();
        self.queue.clear();
    }

    /// Adds a part behind the others.
    pub(super) fn push(&mut self, length: u32, number: u32) {
        let index = u32::try_from(self.parts.len()).unwrap_or(NONE);
        let start = match self.parts.last_mut() {
            Some(last) => {
                last.after = index;
                last.start + last.length
            }
            None => 0,
        };
        self.parts.push(Part {
            start,
            length,
            number,
            before: index.checked_sub(1).unwrap_or(NONE),
            after: NONE,
        });
    }

    /// Merges what merges. `pair` tells for two neighbours their key and the number of what they become.
    pub(super) fn merge(&mut self, pair: impl Fn(Part, Part) -> Option<(u32, u32)>) {
        for index in 1..u32::try_from(self.parts.len()).unwrap_or(NONE) {
            self.propose(index - 1, index, &pair);
        }
        while let Some(Reverse(best)) = self.queue.pop() {
            let (Some(left), Some(right)) = (self.part(best.left), self.part(best.right)) else {
                continue;
            };
            if left.length == 0 || right.length == 0 || left.length + right.length != best.length {
                continue;
            }
            self.change(best.left, |part| {
                part.length = best.length;
                part.number = best.merged;
                part.after = right.after;
            });
            self.change(best.right, |part| part.length = 0);
            self.change(right.after, |part| part.before = best.left);
            self.propose(left.before, best.left, &pair);
            self.propose(best.left, right.after, &pair);
        }
    }

    /// What is left, from left to right.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part> {
        self.parts.iter().copied().filter(|part| part.length > 0)
    }

    fn part(&self, index: u32) -> Option<Part> {
        self.parts.get(usize::try_from(index).ok()?).copied()
    }

    fn change(&mut self, index: u32, change: impl FnOnce(&mut Part)) {
        let index = usize::try_from(index).ok();
        if let Some(part) = index.and_then(|index| self.parts.get_mut(index)) {
            change(part);
        }
    }

    fn propose(&mut self, left: u32, right: u32, pair: &impl Fn(Part, Part) -> Option<(u32, u32)>) {
        let (Some(first), Some(second)) = (self.part(left), self.part(right)) else {
            return;
        };
        self.steps += 1;
        if let Some((key, merged)) = pair(first, second) {
            self.queue.push(Reverse(Pair {
                key,
                left,
                right,
                length: first.length + second.length,
                merged,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Merges `text` letter by letter; a pair's key is the place of its text in `order`.
    fn merged(text: &str, order: &[&str]) -> Vec<String> {
        let mut merger = Merger::default();
        text.bytes().for_each(|_| merger.push(1, NONE));
        let read = |part: Part| {
            let start = part.start as usize;
            &text[start..start + part.length as usize]
        };
        merger.merge(|left, right| {
            let both = format!("{}{}", read(left), read(right));
            let key = order.iter().position(|other| *other == both)?;
            Some((u32::try_from(key).unwrap(), NONE))
        });
        merger.parts().map(|part| read(part).to_owned()).collect()
    }

    #[test]
    fn the_lowest_key_goes_first_and_of_equals_the_leftmost() {
        assert_eq!(merged("abc", &["bc", "ab"]), ["a", "bc"]);
        assert_eq!(merged("abc", &["ab", "bc"]), ["ab", "c"]);
        assert_eq!(merged("aaa", &["aa"]), ["aa", "a"]);
        assert_eq!(merged("aaaaa", &["aa", "aaaa"]), ["aaaa", "a"]);
    }

    #[test]
    fn a_pair_whose_parts_have_changed_is_passed_over() {
        // `ab` waits in the heap while `bc` takes its right part, and `bcd` grows from that.
        assert_eq!(merged("abcd", &["bc", "bcd", "ab", "abcd"]), ["abcd"]);
        assert_eq!(merged("abcd", &["bc", "bcd", "ab"]), ["a", "bcd"]);
    }
}
