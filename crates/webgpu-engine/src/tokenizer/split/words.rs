//! The rules of GPT-2 and what Llama 3 and Qwen made of them.

use super::contraction::{contraction, lower, written};
use super::{Class, Glyph, View};

/// `[^\s\p{L}\p{N}]`
pub(super) fn is_other(glyph: Glyph) -> bool {
    match glyph.class {
        Class::Whitespace | Class::Letter | Class::Number => false,
        Class::Other | Class::Mark | Class::Punctuation | Class::Symbol => true,
    }
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
pub(super) fn gpt2(view: View<'_>, at: usize) -> usize {
    let contracted = contraction(view, at, written);
    if contracted > 0 {
        return at + contracted;
    }
    let begin = at + usize::from(is_space(view, at));
    let Some(first) = view.at(begin) else {
        return whitespace(view, at);
    };
    match first.class {
        Class::Letter | Class::Number => view.past(begin, |glyph| glyph.is(first.class)),
        Class::Whitespace => whitespace(view, at),
        Class::Other | Class::Mark | Class::Punctuation | Class::Symbol => {
            view.past(begin, is_other)
        }
    }
}

/// `…|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn llama3(view: View<'_>, at: usize) -> usize {
    word(view, at, 3, |glyph| glyph.is(Class::Letter), is_other)
}

/// As [`llama3`], with `\p{N}`
pub(super) fn qwen2(view: View<'_>, at: usize) -> usize {
    word(view, at, 1, |glyph| glyph.is(Class::Letter), is_other)
}

/// As [`qwen2`], with `[\p{L}\p{M}]` where that has `\p{L}`
pub(super) fn qwen35(view: View<'_>, at: usize) -> usize {
    let is_letter = |glyph: Glyph| matches!(glyph.class, Class::Letter | Class::Mark);
    word(view, at, 1, is_letter, |glyph| {
        is_other(glyph) && !glyph.is(Class::Mark)
    })
}

fn word(
    view: View<'_>,
    at: usize,
    digits_max: usize,
    is_letter: fn(Glyph) -> bool,
    is_other: fn(Glyph) -> bool,
) -> usize {
    let contracted = contraction(view, at, lower);
    if contracted > 0 {
        return at + contracted;
    }
    let Some(first) = view.at(at) else {
        return at;
    };
    if is_letter(first) || (may_lead(first) && view.at(at + 1).is_some_and(is_letter)) {
        return view.past(at + 1, is_letter);
    }
    if first.is(Class::Number) {
        return numbers(view, at, digits_max);
    }
    others(view, at, is_other, Glyph::is_line_end).unwrap_or_else(|| lines(view, at))
}

/// `[^\r\n\p{L}\p{N}]`
pub(super) fn may_lead(glyph: Glyph) -> bool {
    !glyph.is_line_end() && !glyph.is(Class::Letter) && !glyph.is(Class::Number)
}

/// `\p{N}{1,max}`
pub(super) fn numbers(view: View<'_>, at: usize, max: usize) -> usize {
    let digits = (0..max).take_while(|ahead| view.is(at + ahead, Class::Number));
    at + digits.count()
}

/// ` ?` and one or more others, and what may trail them; `None` where none begin here.
pub(super) fn others(
    view: View<'_>,
    at: usize,
    is_other: fn(Glyph) -> bool,
    may_trail: fn(Glyph) -> bool,
) -> Option<usize> {
    let begin = at + usize::from(is_space(view, at));
    view.at(begin).filter(|glyph| is_other(*glyph))?;
    Some(view.past(view.past(begin, is_other), may_trail))
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn lines(view: View<'_>, at: usize) -> usize {
    let end = view.past(at, |glyph| glyph.is(Class::Whitespace));
    // The last line end of the run; what lies behind it is looked at once more.
    let run = view.part(at, end).glyphs;
    match run.iter().rposition(|glyph| glyph.is_line_end()) {
        Some(last) => at + last + 1,
        None => whitespace(view, at),
    }
}

/// `\s+(?!\S)|\s+`: a run, less its last character where something follows that may want it.
fn whitespace(view: View<'_>, at: usize) -> usize {
    let end = view.past(at, |glyph| glyph.is(Class::Whitespace));
    if end > at + 1 && end < view.len() {
        end - 1
    } else {
        end
    }
}

fn is_space(view: View<'_>, at: usize) -> bool {
    view.at(at).is_some_and(|glyph| glyph.character == ' ')
}
