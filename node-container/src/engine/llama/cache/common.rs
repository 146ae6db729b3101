//! How much of what a job wants to read a cached sequence holds already.
//!
//! What a model wrote may be split into tokens otherwise than the tokeniser would split it. So sequences are compared by
//! the bytes that their tokens write, and the ids that are in the cache are kept. A sequence may be cut where both have
//! a token's end: what follows is then read in the tokeniser's own tokens.
//!
//! Markers ([`super::words`]) and tokens that write nothing are equal by id only, so that a text which spells one never
//! matches it.

use llama_cpp_2::token::LlamaToken;

use super::words::Words;

/// Tokens that write the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Common {
    /// So many tokens of the cached sequence …
    pub(super) cached: usize,
    /// … are so many of the wanted ones.
    pub(super) wanted: usize,
}

/// The longest common beginning at whose end `may_cut` allows a cut.
pub(super) fn common(
    words: Words<'_>,
    cached: &[LlamaToken],
    wanted: &[LlamaToken],
    mut may_cut: impl FnMut(Common) -> bool,
) -> Common {
    let mut best = Common::default();
    let mut at = Common::default();
    while let Some(next) = step(words, cached, wanted, at) {
        at = next;
        if may_cut(at) {
            best = at;
        }
    }
    best
}

/// The next place where both have a token's end.
fn step(
    words: Words<'_>,
    cached: &[LlamaToken],
    wanted: &[LlamaToken],
    mut at: Common,
) -> Option<Common> {
    let (mut ours, mut theirs) = (*cached.get(at.cached)?, *wanted.get(at.wanted)?);
    at.cached += 1;
    at.wanted += 1;
    if ours == theirs {
        return Some(at);
    }
    let (mut left, mut right) = (words.text(ours)?, words.text(theirs)?);
    loop {
        let both = left.len().min(right.len());
        let (head, rest) = left.split_at_checked(both)?;
        let (other_head, other_rest) = right.split_at_checked(both)?;
        if head != other_head {
            return None;
        }
        (left, right) = (rest, other_rest);
        if left.is_empty() && right.is_empty() {
            return Some(at);
        }
        if left.is_empty() {
            ours = *cached.get(at.cached)?;
            at.cached += 1;
            left = words.text(ours)?;
        } else {
            theirs = *wanted.get(at.wanted)?;
            at.wanted += 1;
            right = words.text(theirs)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::llama::cache::words::Markers;
    use chat_format::vocabulary::Vocabulary;
    use proptest::prelude::*;

    /// 0 and 1 write nothing, 11 is a control token that writes its spelling, 12 a marker that a user defined.
    const PIECES: [&str; 13] = [
        "", "", "a", "b", "ab", "ba", "aba", "<", "x>", "<x", ">", "<x>", "<x>",
    ];

    fn vocabulary() -> Vocabulary {
        PIECES.into_iter().collect()
    }

    fn find(cached: &[i32], wanted: &[i32], may_cut: impl FnMut(Common) -> bool) -> (usize, usize) {
        let markers: Markers = (0..PIECES.len())
            .map(|id| !(2..=10).contains(&id))
            .collect();
        let words = Words {
            vocabulary: &vocabulary(),
            markers: &markers,
        };
        let found = common(words, &tokens(cached), &tokens(wanted), may_cut);
        (found.cached, found.wanted)
    }

    fn tokens(ids: &[i32]) -> Vec<LlamaToken> {
        ids.iter().copied().map(LlamaToken::new).collect()
    }

    fn compare(cached: &[i32], wanted: &[i32]) -> (usize, usize) {
        find(cached, wanted, |_| true)
    }

    #[test]
    fn equal_ids_match_up_to_the_first_other() {
        assert_eq!(compare(&[0, 2, 3, 1], &[0, 2, 3, 0]), (3, 3));
        assert_eq!(compare(&[0, 2], &[0, 2, 3]), (2, 2));
        assert_eq!(compare(&[2], &[3]), (0, 0));
    }

    #[test]
    fn the_same_text_in_other_tokens_matches() {
        // "ab" drawn as two tokens, and then a control token.
        assert_eq!(compare(&[0, 2, 3, 1, 2], &[0, 4, 1, 2, 2]), (5, 4));
        assert_eq!(compare(&[0, 4, 1], &[0, 2, 3, 1]), (3, 4));
    }

    #[test]
    fn a_cut_is_where_both_have_an_end() {
        // "aba" + "b" and "ab" + "ab": only the end is common.
        assert_eq!(compare(&[6, 3], &[4, 4]), (2, 2));
        // "aba" and "ab" + "b": nothing is.
        assert_eq!(compare(&[6], &[4, 3]), (0, 0));
        // The cached text ends within a wanted token.
        assert_eq!(compare(&[0, 2], &[0, 4]), (1, 1));
    }

    #[test]
    fn text_that_spells_a_control_token_does_not_match_it() {
        // Were 1 spelled "<x>": it writes nothing, so no text is equal to it.
        assert_eq!(compare(&[2, 1, 2], &[2, 7, 8, 2]), (1, 1));
        assert_eq!(compare(&[2, 7, 8, 2], &[2, 1, 2]), (1, 1));
        assert_eq!(compare(&[2, 7, 8, 2], &[2, 9, 10, 2]), (4, 4));
        assert_eq!(compare(&[0], &[1]), (0, 0));
    }

    #[test]
    fn text_that_spells_a_marker_does_not_match_it_although_the_marker_writes_the_same() {
        for marker in [11, 12] {
            assert_eq!(compare(&[2, marker, 2], &[2, 7, 8, 2]), (1, 1));
            assert_eq!(compare(&[2, 9, 10, 2], &[2, marker, 2]), (1, 1));
            assert_eq!(compare(&[2, marker, 2], &[2, marker, 2]), (3, 3));
        }
        assert_eq!(compare(&[11], &[12]), (0, 0));
    }

    #[test]
    fn cuts_are_made_only_where_they_may() {
        let both = [2, 3, 2, 3];
        assert_eq!(find(&both, &both, |at| at.cached % 3 == 0), (3, 3));
    }

    proptest! {
        #[test]
        fn common_beginnings_write_the_same_and_the_longest_is_found(
            cached in prop::collection::vec(0i32..13, 0..12),
            wanted in prop::collection::vec(0i32..13, 0..12),
        ) {
            /// What tokens write; markers as themselves.
            fn written(ids: &[i32]) -> Vec<u16> {
                let vocabulary = vocabulary();
                ids.iter().flat_map(|id| {
                    let piece = vocabulary.piece(u32::try_from(*id).expect("an id")).expect("a token");
                    if piece.is_empty() || *id > 10 {
                        vec![256 + u16::try_from(*id).expect("small")]
                    } else {
                        piece.iter().map(|byte| u16::from(*byte)).collect()
                    }
                }).collect()
            }
            let longest = (0..=cached.len())
                .flat_map(|left| (0..=wanted.len()).map(move |right| (left, right)))
                .filter(|(left, right)| written(&cached[..*left]) == written(&wanted[..*right]))
                .max();
            prop_assert_eq!(Some(compare(&cached, &wanted)), longest);
        }
    }
}
