//! Which finished conversations are in the cache, each in a sequence of its own. Bookkeeping only: llama.cpp is told
//! elsewhere.

use llama_cpp_2::token::LlamaToken;
use protocol::PrefixHash;

/// Names of one conversation: of its turns, the newest first. The relay looks for no more.
const NAMES_MAX: usize = 8;

/// A finished conversation.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its sequence in the KV cache.
    pub(super) sequence: i32,
    /// What is evaluated in that sequence.
    pub(super) tokens: Vec<LlamaToken>,
    /// What the relay calls it and its beginnings.
    pub(super) names: Vec<PrefixHash>,
}

/// All of them, the last used one first.
#[derive(Debug)]
pub(super) struct Entries {
    all: Vec<Entry>,
    /// Sequences without an entry.
    free: Vec<i32>,
}

impl Entries {
    /// None yet; there may be as many as sequences.
    pub(super) fn new(sequences: impl IntoIterator<Item = i32>) -> Self {
        Self {
            all: Vec::new(),
            free: sequences.into_iter().collect(),
        }
    }

    /// Whether there can be any.
    pub(super) const fn is_off(&self) -> bool {
        self.all.is_empty() && self.free.is_empty()
    }

    /// The last used one first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.all.iter()
    }

    /// Tokens of all entries. What they share is counted for each, so they hold at most so many cells.
    pub(super) fn tokens(&self) -> usize {
        self.all.iter().map(|entry| entry.tokens.len()).sum()
    }

    /// Sequences that can take an entry at once.
    pub(super) fn take_free(&mut self) -> Option<i32> {
        self.free.pop()
    }

    /// An entry was used.
    pub(super) fn touch(&mut self, sequence: i32) {
        if let Some(place) = self.place(sequence)
            && let Some(used) = self.all.get_mut(..=place)
        {
            used.rotate_right(1);
        }
    }

    /// Takes in an entry whose sequence was free before.
    pub(super) fn add(&mut self, entry: Entry) {
        self.all.insert(0, entry);
    }

    /// Takes an entry out; its sequence is free now.
    pub(super) fn remove(&mut self, sequence: i32) -> Option<Entry> {
        let place = self.place(sequence)?;
        let entry = self.all.remove(place);
        self.free.push(sequence);
        Some(entry)
    }

    /// Takes out the entry that was used least recently.
    pub(super) fn remove_oldest(&mut self) -> Option<Entry> {
        let sequence = self.all.last()?.sequence;
        self.remove(sequence)
    }

    /// An entry that holds all of these tokens.
    pub(super) fn holding(&self, tokens: &[LlamaToken]) -> Option<i32> {
        let mut found = self
            .all
            .iter()
            .filter(|entry| entry.tokens.starts_with(tokens));
        found.next().map(|entry| entry.sequence)
    }

    /// An entry of which these tokens hold all.
    pub(super) fn held_by(&self, tokens: &[LlamaToken]) -> Option<i32> {
        let mut found = self
            .all
            .iter()
            .filter(|entry| tokens.starts_with(&entry.tokens));
        found.next().map(|entry| entry.sequence)
    }

    /// Gives an entry more names.
    pub(super) fn name(&mut self, sequence: i32, names: &[PrefixHash]) {
        if let Some(entry) = self
            .place(sequence)
            .and_then(|place| self.all.get_mut(place))
        {
            entry.names = joined(names, &entry.names);
        }
    }

    fn place(&self, sequence: i32) -> Option<usize> {
        self.all.iter().position(|entry| entry.sequence == sequence)
    }
}

/// Names, the newer ones first.
pub(super) fn joined(newer: &[PrefixHash], older: &[PrefixHash]) -> Vec<PrefixHash> {
    let mut names = newer.to_vec();
    names.extend(older.iter().filter(|name| !newer.contains(name)));
    names.truncate(NAMES_MAX);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: &[i32]) -> Vec<LlamaToken> {
        ids.iter().copied().map(LlamaToken::new).collect()
    }

    fn add(entries: &mut Entries, ids: &[i32]) -> i32 {
        let sequence = entries.take_free().expect("a free sequence");
        entries.add(Entry {
            sequence,
            tokens: tokens(ids),
            names: Vec::new(),
        });
        sequence
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut entries = Entries::new(4..7);
        let [first, second, third] = [1, 2, 3].map(|id| add(&mut entries, &[id]));
        assert_eq!(entries.take_free(), None);
        entries.touch(first);
        let order: Vec<i32> = std::iter::from_fn(|| entries.remove_oldest())
            .map(|entry| entry.sequence)
            .collect();
        assert_eq!(order, [second, third, first]);
        assert!(entries.take_free().is_some());
    }

    #[test]
    fn what_holds_what_is_found() {
        let mut entries = Entries::new(0..2);
        let long = add(&mut entries, &[1, 2, 3]);
        assert_eq!(entries.holding(&tokens(&[1, 2])), Some(long));
        assert_eq!(entries.holding(&tokens(&[1, 2, 3, 4])), None);
        assert_eq!(entries.held_by(&tokens(&[1, 2, 3, 4])), Some(long));
        assert_eq!(entries.held_by(&tokens(&[1, 2])), None);
        assert_eq!(entries.tokens(), 3);
    }

    #[test]
    fn names_are_told_once_and_the_newest_stay() {
        let names: Vec<PrefixHash> = (0..12).map(PrefixHash).collect();
        let all = joined(&names[..2], &names);
        assert_eq!(all, names[..NAMES_MAX]);
    }

    #[test]
    fn without_sequences_nothing_is_kept() {
        assert!(Entries::new(0..0).is_off());
        assert!(!Entries::new(0..1).is_off());
    }
}
