//! The bytes that each token of a model stands for, and how a given text can be written in them.

use crate::family::Syntax;
use crate::parse::Part;

/// A given text is taken back by at most this many tokens before a model goes on with it.
const TAKEN_BACK_MAX: usize = 16;

/// What each token writes into an answer, by id. Control tokens write nothing.
#[derive(Debug, Default)]
pub struct Vocabulary {
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<usize>,
    longest: usize,
}

impl<P: AsRef<[u8]>> FromIterator<P> for Vocabulary {
    fn from_iter<I: IntoIterator<Item = P>>(pieces: I) -> Self {
        let mut vocabulary = Self::default();
        for piece in pieces {
            let piece = piece.as_ref();
            vocabulary.bytes.extend_from_slice(piece);
            vocabulary.ends.push(vocabulary.bytes.len());
            vocabulary.longest = vocabulary.longest.max(piece.len());
        }
        vocabulary
    }
}

impl Vocabulary {
    /// That of a model whose tokens are numbered from 0 to `count`: control tokens write nothing, but for the markers of
    /// its syntax. `piece` gives a token's bytes, those of a control token where it is told so.
    pub fn of(
        count: u32,
        syntax: &Syntax,
        is_control: impl Fn(u32) -> bool,
        piece: impl Fn(u32, bool) -> Vec<u8>,
    ) -> Self {
        let markers = syntax.markers();
        let pieces = (0..count).map(|token| {
            let is_marker = is_control(token) && {
                let spelling = piece(token, true);
                markers.iter().any(|marker| spelling == marker.as_bytes())
            };
            piece(token, is_marker)
        });
        pieces.collect()
    }

    /// Writes a part of an answer in tokens, with the control tokens of markers. `encode` gives the tokens of a text,
    /// control tokens where it is told so.
    pub fn tokenise_parts(
        &self,
        parts: &[Part],
        encode: impl Fn(&str, bool) -> Vec<u32>,
    ) -> Vec<u32> {
        let (mut tokens, mut text) = (Vec::new(), String::new());
        for part in parts {
            match encode(&part.text, part.is_marker).as_slice() {
                [token] if part.is_marker => {
                    tokens.extend(self.tokenise_text(&text, &encode));
                    text.clear();
                    tokens.push(*token);
                }
                _ => text.push_str(&part.text),
            }
        }
        tokens.extend(self.tokenise_text(&text, encode));
        tokens
    }

    /// Writes text of an answer in tokens, none of them a control token.
    pub fn tokenise_text(&self, text: &str, encode: impl Fn(&str, bool) -> Vec<u32>) -> Vec<u32> {
        let tokens = encode(text, false);
        // Some tokenisers put a space before every text, which models then write at the beginning of their answers.
        if let Some(rest) = text.strip_prefix(' ')
            && self.agreeing(&tokens, text.as_bytes()).0 == 0
        {
            return encode(rest, false);
        }
        tokens
    }

    /// A token's bytes; `None` where there is no such token.
    pub fn piece(&self, token: u32) -> Option<&[u8]> {
        let index = usize::try_from(token).ok()?;
        let end = *self.ends.get(index)?;
        let before = index.checked_sub(1).and_then(|index| self.ends.get(index));
        self.bytes.get(before.copied().unwrap_or(0)..end)
    }

    /// Bytes of the longest token.
    pub const fn longest(&self) -> usize {
        self.longest
    }

    /// The longest token that `text` begins with: some way to write it, where the model's own is not known.
    pub fn longest_beginning(&self, text: &[u8]) -> Option<u32> {
        let fitting = self
            .pieces()
            .filter(|(_, piece)| !piece.is_empty() && text.starts_with(piece));
        // Of equals the lower id, which comes first.
        fitting
            .reduce(|best, other| {
                if other.1.len() > best.1.len() {
                    other
                } else {
                    best
                }
            })
            .map(|(token, _)| token)
    }

    /// How many of `tokens` agree with `text`, from the first on, and how many bytes of it they write.
    pub fn agreeing(&self, tokens: &[u32], text: &[u8]) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        for token in tokens {
            let rest = text.get(bytes..).unwrap_or_default();
            let Some(piece) = self.piece(*token).filter(|piece| rest.starts_with(piece)) else {
                break;
            };
            count += 1;
            bytes += piece.len();
        }
        (count, bytes)
    }

    /// How many tokens at the end of a given text are to be drawn again, since a model that had written the text
    /// itself might have written them as one with what follows. At least one, where there is one.
    pub fn open_end(&self, tokens: &[u32]) -> usize {
        let mut tail: Vec<u8> = Vec::new();
        let mut open = tokens.len().min(1);
        for (count, token) in (1..=TAKEN_BACK_MAX).zip(tokens.iter().rev()) {
            let piece = self.piece(*token).unwrap_or_default();
            tail.splice(0..0, piece.iter().copied());
            if tail.len() >= self.longest {
                break;
            }
            if self.has_longer(&tail) {
                open = open.max(count);
            }
        }
        open
    }

    /// Whether a token goes on from `text`.
    fn has_longer(&self, text: &[u8]) -> bool {
        self.pieces()
            .any(|(_, piece)| piece.len() > text.len() && piece.starts_with(text))
    }

    fn pieces(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut start = 0;
        (0u32..).zip(self.ends.iter().map(move |end| {
            let piece = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            piece
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        ["", "a", "b", "ab", " he", "llo", " hello", "l", "\u{1f980}"]
            .into_iter()
            .collect()
    }

    #[test]
    fn each_token_has_its_bytes_and_others_have_none() {
        let vocabulary = vocabulary();
        assert_eq!(vocabulary.piece(0), Some(&b""[..]));
        assert_eq!(vocabulary.piece(4), Some(&b" he"[..]));
        assert_eq!(vocabulary.piece(8), Some("🦀".as_bytes()));
        assert_eq!(vocabulary.piece(9), None);
        assert_eq!(vocabulary.piece(u32::MAX), None);
        assert_eq!(vocabulary.longest(), 6);
    }

    #[test]
    fn tokens_agree_up_to_the_first_that_does_not() {
        let vocabulary = vocabulary();
        assert_eq!(vocabulary.agreeing(&[1, 2, 5], b"ab\x6c"), (2, 2));
        assert_eq!(vocabulary.agreeing(&[3, 99], b"ab"), (1, 2));
        assert_eq!(vocabulary.agreeing(&[], b"ab"), (0, 0));
    }

    #[test]
    fn what_a_longer_token_could_span_is_open() {
        let vocabulary = vocabulary();
        // " he" + "l" might have been the beginning of " hello".
        assert_eq!(vocabulary.open_end(&[1, 4, 7]), 2);
        assert_eq!(vocabulary.open_end(&[4, 1]), 1);
        assert_eq!(vocabulary.open_end(&[5]), 1);
        assert_eq!(vocabulary.open_end(&[]), 0);
    }

    #[test]
    fn some_token_is_found_for_any_text_that_begins_with_one() {
        let vocabulary = vocabulary();
        assert_eq!(vocabulary.longest_beginning(b"abc"), Some(3));
        assert_eq!(vocabulary.longest_beginning(b"xyz"), None);
    }
}
