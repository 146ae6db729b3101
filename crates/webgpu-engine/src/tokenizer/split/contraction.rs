//! English contractions: `'s`, `'re` and their like.

use super::View;

/// How many characters of a contraction begin at `at`: 0, 2 or 3.
///
/// `fold` says how a letter is read: as it is, or in lower case.
pub(super) fn contraction(view: View<'_>, at: usize, fold: fn(char) -> char) -> usize {
    let letter = |index: usize| view.at(index).map(|glyph| fold(glyph.character));
    if view.at(at).is_none_or(|glyph| glyph.character != '\'') {
        return 0;
    }
    match letter(at + 1) {
        Some('s' | 't' | 'm' | 'd') => 2,
        Some('r' | 'v') if letter(at + 2) == Some('e') => 3,
        Some('l') if letter(at + 2) == Some('l') => 3,
        _ => 0,
    }
}

/// As it is written.
pub(super) const fn written(letter: char) -> char {
    letter
}

/// In lower case. What is no ASCII letter becomes none of these letters either.
pub(super) const fn lower(letter: char) -> char {
    letter.to_ascii_lowercase()
}
