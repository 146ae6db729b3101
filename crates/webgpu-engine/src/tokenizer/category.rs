//! Classes of characters, as llama.cpp has them.
//!
//! The table is llama.cpp's own, so that a character that one Unicode version knows and another does not is cut the
//! same way here and there; a crate of Unicode's categories would follow its own version.

mod table;

/// What the rules of pre-tokenizers ask of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Control, separator that is no whitespace, private use, or not assigned.
    Other,
    /// `\p{N}`
    Number,
    /// `\p{L}`
    Letter,
    /// `\p{M}`
    Mark,
    /// `\p{P}`
    Punctuation,
    /// `\p{S}`
    Symbol,
    /// `\s`
    Whitespace,
}

impl Class {
    /// The class of `character`.
    pub(super) fn of(character: char) -> Self {
        let key = u32::from(character) << 4 | 0xF;
        let after = table::RANGES.partition_point(|&range| range <= key);
        let range = after.checked_sub(1).and_then(|at| table::RANGES.get(at));
        match range.map_or(0, |range| range & 0xF) {
            1 => Self::Number,
            2 => Self::Letter,
            3 => Self::Mark,
            4 => Self::Punctuation,
            5 => Self::Symbol,
            6 => Self::Whitespace,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_has_the_class_that_unicode_gives_it() {
        for (characters, class) in [
            ("aZé中ʼªאあ", Class::Letter),
            ("0٣Ⅷ²", Class::Number),
            ("\u{301}\u{20dd}\u{93f}", Class::Mark),
            ("!_«、'", Class::Punctuation),
            ("$+`€😀", Class::Symbol),
            (" \t\r\n\u{85}\u{a0}\u{3000}", Class::Whitespace),
            (
                "\0\u{1c}\u{7f}\u{ad}\u{200b}\u{e000}\u{10ffff}\u{378}",
                Class::Other,
            ),
        ] {
            for character in characters.chars() {
                assert_eq!(Class::of(character), class, "{character:?}");
            }
        }
    }

    #[test]
    fn whitespace_is_what_the_standard_library_says() {
        for character in '\0'..=char::MAX {
            assert_eq!(
                Class::of(character) == Class::Whitespace,
                character.is_whitespace(),
                "{character:?}"
            );
        }
    }
}
