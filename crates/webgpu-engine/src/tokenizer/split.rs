//! Pre-tokenizers: where a byte-level BPE vocabulary cuts a text into words before it merges.
//!
//! llama.cpp writes these rules as regular expressions and matches some of them by hand, others by backtracking. Here
//! each is a scanner that looks at a character a bounded number of times. A rule may have several stages; a later one
//! sees each word of the earlier one alone, so what lies beyond a word's end is not seen.

mod cased;
mod contraction;
mod runs;
mod words;

use super::category::Class;

/// A character of a text with its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Glyph {
    pub(super) character: char,
    pub(super) class: Class,
}

impl Glyph {
    pub(super) fn is(self, class: Class) -> bool {
        self.class == class
    }

    fn is_line_end(self) -> bool {
        matches!(self.character, '\r' | '\n')
    }
}

/// The part of a text that a stage sees.
#[derive(Debug, Clone, Copy)]
struct View<'a> {
    glyphs: &'a [Glyph],
    #[cfg(test)]
    looks: &'a std::cell::Cell<usize>,
}

impl View<'_> {
    fn at(self, index: usize) -> Option<Glyph> {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
        self.glyphs.get(index).copied()
    }

    fn len(self) -> usize {
        self.glyphs.len()
    }

    fn part(self, from: usize, to: usize) -> Self {
        let mut part = self;
        part.glyphs = self.glyphs.get(from..to).unwrap_or_default();
        part
    }

    /// The first place from `from` on whose character is not `wanted`.
    fn past(self, from: usize, wanted: impl Fn(Glyph) -> bool) -> usize {
        let mut index = from;
        while self.at(index).is_some_and(&wanted) {
            index += 1;
        }
        index
    }

    fn is(self, index: usize, class: Class) -> bool {
        self.at(index).is_some_and(|glyph| glyph.is(class))
    }
}

/// Where the word ends that begins at the given place; always behind it.
type Stage = fn(View<'_>, usize) -> usize;

/// How a family of vocabularies cuts texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    /// What llama.cpp takes where a file names nothing.
    Default,
    /// GPT-2: contractions in lower case, letters, numbers, others; each with the space before it.
    Gpt2,
    /// As GPT-2, and each digit alone.
    Smollm,
    /// Llama 3: numbers of up to three digits, line ends with the punctuation before them.
    Llama3,
    /// As Llama 3, and each digit alone.
    Qwen2,
    /// As Qwen 2, and marks belong to their letters.
    Qwen35,
    /// Mistral: a word ends where an upper-case letter follows a lower-case one.
    Tekken,
    /// As Tekken, with contractions, and numbers of up to three digits.
    Gpt4o,
}

impl Rules {
    fn stages(self) -> &'static [Stage] {
        match self {
            Self::Default => &[
                runs::default_punctuation,
                words::gpt2,
                runs::numbers,
                runs::three_digits,
            ],
            Self::Gpt2 => &[words::gpt2],
            Self::Smollm => &[runs::each_number, words::gpt2],
            Self::Llama3 => &[words::llama3],
            Self::Qwen2 => &[words::qwen2],
            Self::Qwen35 => &[words::qwen35],
            Self::Tekken => &[cased::tekken],
            Self::Gpt4o => &[cased::gpt4o],
        }
    }
}

/// Hands each word of `text` to `word`, in order; together they are the text.
///
/// `glyphs` is room that is used again from call to call. Returns the number of characters; in tests, how often one was looked at.
pub(super) fn split<'a>(
    rules: Rules,
    text: &'a str,
    glyphs: &mut Vec<Glyph>,
    mut word: impl FnMut(&'a str),
) -> usize {
    glyphs.clear();
    glyphs.extend(text.chars().map(|character| Glyph {
        character,
        class: Class::of(character),
    }));
    #[cfg(test)]
    let looks = std::cell::Cell::new(0);
    let view = View {
        glyphs,
        #[cfg(test)]
        looks: &looks,
    };
    let mut rest = text;
    cut(view, rules.stages(), &mut |view| {
        let bytes = view.glyphs.iter().map(|it| it.character.len_utf8()).sum();
        let (this, after) = rest.split_at_checked(bytes).unwrap_or((rest, ""));
        rest = after;
        word(this);
    });
    #[cfg(test)]
    return looks.get();
    #[cfg(not(test))]
    glyphs.len()
}

/// The words of `view` by the first of `stages`, each cut by the others. As deep as there are stages: at most four.
fn cut(view: View<'_>, stages: &[Stage], word: &mut impl FnMut(View<'_>)) {
    let Some((stage, later)) = stages.split_first() else {
        word(view);
        return;
    };
    let mut from = 0;
    while from < view.len() {
        let to = stage(view, from).clamp(from + 1, view.len());
        cut(view.part(from, to), later, word);
        from = to;
    }
}

#[cfg(test)]
mod tests;
