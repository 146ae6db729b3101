//! Sets the special tokens of a text apart from what lies between them.
//!
//! llama.cpp goes through the whole text once for each special token, the longest first, and takes each place where it
//! is found and nothing has been taken yet. The same comes out here in one pass over the text: each place proposes the
//! longest token that begins there, the best proposal of all is taken, and a place whose proposal no longer fits
//! proposes a shorter one. Of equally long tokens the one with the lower id is taken first; llama.cpp leaves that open.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::attributes::{Attributes, Kinds};
use super::lookup::Lookup;

/// A piece of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// What is left to be cut into tokens.
    Text(&'a str),
    /// A special token.
    Token(u32),
}

/// The special tokens of a vocabulary.
#[derive(Debug, Clone)]
pub(super) struct Specials {
    /// In the order of their texts.
    tokens: Vec<Special>,
    /// By byte: where in `tokens` those lie that begin with it.
    beginnings: Vec<(usize, usize)>,
}

#[derive(Debug, Clone)]
struct Special {
    text: Box<[u8]>,
    token: u32,
    attributes: Attributes,
}

/// A token that begins at a place. The greatest is taken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Proposal {
    length: usize,
    token: Reverse<u32>,
    start: Reverse<usize>,
    index: usize,
}

/// Where a token has been taken, by its start.
type Taken = BTreeMap<usize, (usize, u32)>;

impl Specials {
    /// The special tokens for which `wanted` holds. One that is not UTF-8 is never found: it could begin or end within
    /// a character.
    pub(super) fn new(kinds: &Kinds, lookup: &Lookup, wanted: fn(Attributes) -> bool) -> Self {
        let mut tokens: Vec<_> = kinds
            .those(Attributes::SPECIAL)
            .map(|token| Special {
                text: lookup.text(token).into(),
                token,
                attributes: kinds.of(token),
            })
            .filter(|it| wanted(it.attributes) && std::str::from_utf8(&it.text).is_ok())
            .collect();
        tokens.sort_unstable_by(|one, other| one.text.cmp(&other.text));
        let beginnings = (0..=u8::MAX)
            .map(|byte| {
                let from = tokens.partition_point(|it| it.text.first() < Some(&byte));
                let to = tokens.partition_point(|it| it.text.first() <= Some(&byte));
                (from, to)
            })
            .collect();
        Self { tokens, beginnings }
    }

    /// The longest special token with which `text` begins.
    fn longest(&self, text: &[u8]) -> Option<usize> {
        let (mut from, mut to) = *self.beginnings.get(usize::from(*text.first()?))?;
        let mut longest = None;
        for (depth, byte) in text.iter().enumerate() {
            let these = self.tokens.get(from..to)?;
            let at = |it: &Special| it.text.get(depth).copied();
            to = from + these.partition_point(|it| at(it) <= Some(*byte));
            from += these.partition_point(|it| at(it) < Some(*byte));
            let first = self.tokens.get(from..to).and_then(<[Special]>::first);
            let Some(first) = first else {
                break;
            };
            if first.text.len() == depth + 1 {
                longest = Some(from);
            }
        }
        longest
    }

    fn propose(&self, text: &[u8], start: usize, end: usize) -> Option<Proposal> {
        let index = self.longest(text.get(start..end)?)?;
        let special = self.tokens.get(index)?;
        Some(Proposal {
            length: special.text.len(),
            token: Reverse(special.token),
            start: Reverse(start),
            index,
        })
    }

    /// Cuts `text`; hands out its pieces in order, none of them empty. Returns how many proposals that took: of each
    /// place at most as many as special tokens have different lengths, as a rule one.
    pub(super) fn cut<'a>(&self, text: &'a str, mut piece: impl FnMut(Piece<'a>)) -> usize {
        let bytes = text.as_bytes();
        let mut proposals: BinaryHeap<Proposal> = (0..bytes.len())
            .filter_map(|start| self.propose(bytes, start, bytes.len()))
            .collect();
        let mut taken = Taken::new();
        let mut steps = 0;
        while let Some(best) = proposals.pop() {
            steps += 1;
            let (start, end) = (best.start.0, best.start.0 + best.length);
            let (free_from, free_to) = free_around(&taken, start, bytes.len());
            if start < free_from {
                continue;
            }
            if end > free_to {
                proposals.extend(self.propose(bytes, start, free_to));
                continue;
            }
            let Some(special) = self.tokens.get(best.index) else {
                continue;
            };
            let left = bytes.get(free_from..start).unwrap_or_default();
            let right = bytes.get(end..free_to).unwrap_or_default();
            let blank = |byte: &&u8| matches!(byte, b' ' | b'\t'..=b'\r');
            let (mut before, mut after) = (0, 0);
            if special.attributes.any(Attributes::STRIPS_LEFT) {
                before = left.iter().rev().take_while(blank).count();
            }
            if special.attributes.any(Attributes::STRIPS_RIGHT) {
                after = right.iter().take_while(blank).count();
            }
            taken.insert(start - before, (end + after, special.token));
        }
        let mut from = 0;
        for (start, (end, token)) in taken {
            between(text, from, start, &mut piece);
            piece(Piece::Token(token));
            from = end;
        }
        between(text, from, text.len(), &mut piece);
        steps
    }
}

fn between<'a>(text: &'a str, from: usize, to: usize, piece: &mut impl FnMut(Piece<'a>)) {
    if let Some(text) = text.get(from..to).filter(|text| !text.is_empty()) {
        piece(Piece::Text(text));
    }
}

/// From where to where nothing is taken around `place`; if it is taken itself, from behind it.
fn free_around(taken: &Taken, place: usize, length: usize) -> (usize, usize) {
    let before = taken.range(..=place).next_back();
    let after = taken.range(place + 1..).next();
    (
        before.map_or(0, |(_, (end, _))| *end),
        after.map_or(length, |(start, _)| *start),
    )
}
