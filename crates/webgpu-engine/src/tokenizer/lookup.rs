//! From a text to its token.

use std::hash::{DefaultHasher, Hash, Hasher};

use hashbrown::HashTable;

use super::vocabulary::VocabularyError;
use gguf::Texts;

/// What stands for no token.
pub(super) const NONE: u32 = u32::MAX;

/// Texts with numbers: tokens first, by id, then texts that only merges make.
///
/// Its hash is `SipHash` with fixed keys: the same run after run. Whoever writes a vocabulary could look for texts whose
/// hashes are equal, at a cost that makes them few.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    tokens: u32,
    texts: Texts,
    table: HashTable<u32>,
    longest: usize,
}

fn hash_of(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text);
    hasher.finish()
}

/// The text with this number.
fn text_of(texts: &Texts, number: u32) -> &[u8] {
    usize::try_from(number)
        .ok()
        .and_then(|index| texts.text(index))
        .unwrap_or_default()
}

impl Lookup {
    /// Numbers `tokens`; an empty one is called `[EMPTY_id]`, as in llama.cpp.
    pub(super) fn new(tokens: &Texts) -> Result<Self, VocabularyError> {
        let mut these = Self {
            tokens: 0,
            texts: Texts::default(),
            table: HashTable::with_capacity(tokens.count()),
            longest: 0,
        };
        for token in tokens.iter() {
            let second = these.count();
            let empty = format!("[EMPTY_{second}]");
            let text = if token.is_empty() {
                empty.as_bytes()
            } else {
                token
            };
            let first = these.number(text);
            if first != second {
                return Err(VocabularyError::DuplicateToken { first, second });
            }
            these.longest = these.longest.max(text.len());
        }
        these.tokens = these.count();
        Ok(these)
    }

    fn count(&self) -> u32 {
        u32::try_from(self.texts.count()).unwrap_or(NONE)
    }

    /// How many tokens there are.
    pub(super) const fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Bytes of the longest token.
    pub(super) const fn longest(&self) -> usize {
        self.longest
    }

    /// The number of `text`, given to it now if it has none.
    pub(super) fn number(&mut self, text: &[u8]) -> u32 {
        let number = self.count();
        let hash = hash_of(text);
        let texts = &self.texts;
        if let Some(known) = self
            .table
            .find(hash, |other| text_of(texts, *other) == text)
        {
            return *known;
        }
        self.texts.push(text);
        let texts = &self.texts;
        self.table
            .insert_unique(hash, number, |other| hash_of(text_of(texts, *other)));
        number
    }

    /// The token or text of a merge that reads `text`; [`NONE`] where there is none.
    pub(super) fn known(&self, text: &[u8]) -> u32 {
        let is_it = |other: &u32| text_of(&self.texts, *other) == text;
        let found = self.table.find(hash_of(text), is_it);
        found.copied().unwrap_or(NONE)
    }

    /// The token that reads `text`.
    pub(super) fn token(&self, text: &[u8]) -> Option<u32> {
        if text.len() > self.longest {
            return None;
        }
        Some(self.known(text)).filter(|known| *known < self.tokens)
    }

    /// What a token or text of a merge reads.
    pub(super) fn text(&self, number: u32) -> &[u8] {
        text_of(&self.texts, number)
    }
}

/// A pair of numbered texts that merge.
#[derive(Debug, Clone, Copy)]
struct Merge {
    left: u32,
    right: u32,
    rank: u32,
    merged: u32,
}

/// Which pairs merge, and in which order.
#[derive(Debug, Clone, Default)]
pub(super) struct Merges {
    table: HashTable<Merge>,
}

fn hash_of_pair(left: u32, right: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    (left, right).hash(&mut hasher);
    hasher.finish()
}

impl Merges {
    /// Reads `merges` and numbers their texts in `lookup`. Of two equal ones the first counts. Their texts need not be
    /// tokens: what such a merge makes is written byte by byte in the end, as in llama.cpp.
    pub(super) fn new(merges: &Texts, lookup: &mut Lookup) -> Result<Self, VocabularyError> {
        let mut table: HashTable<Merge> = HashTable::with_capacity(merges.count());
        let mut both = Vec::new();
        for (index, merge) in merges.iter().enumerate() {
            // The first text has at least one byte, which may be a space.
            let space = merge.iter().skip(1).position(|byte| *byte == b' ');
            let (first, second) = space
                .and_then(|at| merge.split_at_checked(at + 1))
                .and_then(|(first, second)| Some((first, second.split_first()?.1)))
                .ok_or(VocabularyError::MalformedMerge { index })?;
            both.clear();
            both.extend_from_slice(first);
            both.extend_from_slice(second);
            let merge = Merge {
                left: lookup.number(first),
                right: lookup.number(second),
                merged: lookup.number(&both),
                rank: u32::try_from(index).unwrap_or(u32::MAX),
            };
            table
                .entry(
                    hash_of_pair(merge.left, merge.right),
                    |other| (other.left, other.right) == (merge.left, merge.right),
                    |other| hash_of_pair(other.left, other.right),
                )
                .or_insert(merge);
        }
        Ok(Self { table })
    }

    /// The rank of the merge of two texts, and what they become.
    pub(super) fn pair(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let is_it = |merge: &Merge| (merge.left, merge.right) == (left, right);
        let merge = self.table.find(hash_of_pair(left, right), is_it)?;
        Some((merge.rank, merge.merged))
    }
}
