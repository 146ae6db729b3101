//! The rules of Tekken and GPT-4o, which end a word where upper case follows lower case.
//!
//! llama.cpp asks for case among ASCII letters only: every other letter counts as both. With `U` a letter that is no
//! `a-z` and `L` one that is no `A-Z`, a word is `U*L+`, or where that matches nothing, `U+L*`.

use super::contraction::{contraction, lower};
use super::words::{is_other, lines, may_lead, numbers, others};
use super::{Class, Glyph, View};

/// `[^\r\n\p{L}\p{N}]?U*L+|[^\r\n\p{L}\p{N}]?U+L*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn tekken(view: View<'_>, at: usize) -> usize {
    letters(view, at).unwrap_or_else(|| rest(view, at, 1))
}

/// As [`tekken`], with a contraction behind the letters, and `\p{N}{1,3}`
pub(super) fn gpt4o(view: View<'_>, at: usize) -> usize {
    match letters(view, at) {
        Some(end) => end + contraction(view, end, lower),
        None => rest(view, at, 3),
    }
}

fn rest(view: View<'_>, at: usize, digits_max: usize) -> usize {
    if view.is(at, Class::Number) {
        return numbers(view, at, digits_max);
    }
    let may_trail = |glyph: Glyph| glyph.is_line_end() || glyph.character == '/';
    others(view, at, is_other, may_trail).unwrap_or_else(|| lines(view, at))
}

/// The end of the letters that begin at `at`, or behind the one character that may lead them.
fn letters(view: View<'_>, at: usize) -> Option<usize> {
    let led = view.at(at).is_some_and(may_lead);
    let begin = at + usize::from(led);
    view.at(begin).filter(|glyph| glyph.is(Class::Letter))?;
    let upper = view.past(begin, |glyph| {
        glyph.is(Class::Letter) && !glyph.character.is_ascii_lowercase()
    });
    if view.is(upper, Class::Letter) {
        return Some(view.past(upper, |glyph| {
            glyph.is(Class::Letter) && !glyph.character.is_ascii_uppercase()
        }));
    }
    // No `a-z` ends the run of `U`: the last letter of it that is an `L` as well does, where there is one. What lies
    // behind that is `A-Z` only and the whole next word, so it is looked at twice and no more often.
    let run = view.part(begin, upper).glyphs;
    let last = run
        .iter()
        .rposition(|glyph| !glyph.character.is_ascii_uppercase());
    Some(last.map_or(upper, |last| begin + last + 1))
}
