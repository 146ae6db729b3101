//! Stages that set something apart and leave what lies between as it is.

use super::{Class, Glyph, View};

/// From `at` on, as far as characters are all `wanted` or all not.
fn alike(view: View<'_>, at: usize, wanted: fn(Glyph) -> bool) -> usize {
    let first = view.at(at).is_some_and(wanted);
    view.past(at, |glyph| wanted(glyph) == first)
}

fn is_number(glyph: Glyph) -> bool {
    glyph.is(Class::Number)
}

/// `\p{N}`
pub(super) fn each_number(view: View<'_>, at: usize) -> usize {
    if view.is(at, Class::Number) {
        at + 1
    } else {
        alike(view, at, is_number)
    }
}

/// `\p{N}+`
pub(super) fn numbers(view: View<'_>, at: usize) -> usize {
    alike(view, at, is_number)
}

/// `[\p{P}\$\+<=>\^~\|]+`
pub(super) fn default_punctuation(view: View<'_>, at: usize) -> usize {
    alike(view, at, |glyph| {
        glyph.is(Class::Punctuation)
            || matches!(
                glyph.character,
                '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|'
            )
    })
}

/// `[0-9][0-9][0-9]`
pub(super) fn three_digits(view: View<'_>, at: usize) -> usize {
    let is_digit = |glyph: Glyph| glyph.character.is_ascii_digit();
    let mut from = at;
    while from < view.len() {
        // No further than three: what follows is looked at when its turn comes.
        let digits = (0..3).take_while(|ahead| view.at(from + ahead).is_some_and(is_digit));
        match digits.count() {
            3 if from == at => return at + 3,
            3 => return from,
            digits => from += digits + 1,
        }
    }
    view.len()
}
