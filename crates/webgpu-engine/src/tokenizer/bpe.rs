//! Byte-level BPE: words of a text, their bytes as characters, merged by rank.

use super::lookup::{Lookup, Merges, NONE};
use super::merging::Merger;
use super::pre::Pre;
use super::split::{Glyph, Rules, split};
use super::vocabulary::VocabularyError;
use gguf::Texts;

/// The character that stands for a byte, as GPT-2 wrote its vocabulary: itself where it is visible, otherwise one from
/// U+0100 on.
pub(super) fn character_of(byte: u8) -> char {
    match byte {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
        0x00..=0x20 => beyond(u32::from(byte)),
        0x7F..=0xA0 => beyond(u32::from(byte) - 0x7F + 33),
        0xAD => beyond(67),
    }
}

fn beyond(index: u32) -> char {
    char::from_u32(0x100 + index).unwrap_or_default()
}

/// The byte for which a character stands, if it stands for one.
pub(super) fn byte_of(character: char) -> Option<u8> {
    match u32::from(character) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => u8::try_from(code).ok(),
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        code @ 0x121..=0x142 => u8::try_from(code - 0x100 - 33 + 0x7F).ok(),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// How a BPE vocabulary writes texts.
#[derive(Debug, Clone)]
pub(super) struct Bpe {
    rules: Rules,
    merges: Merges,
    /// The number of each byte's character.
    bytes: Vec<u32>,
    /// A word that is a token is that token, whatever its merges would make of it.
    ignores_merges: bool,
}

/// Room that is used again from word to word.
#[derive(Debug, Clone, Default)]
pub(super) struct Workspace {
    glyphs: Vec<Glyph>,
    word: Vec<u8>,
    pub(super) merger: Merger,
    /// Characters of the cut texts; in tests, how often one was looked at.
    pub(super) looks: usize,
}

impl Bpe {
    pub(super) fn new(
        pre: Pre,
        merges: &Texts,
        lookup: &mut Lookup,
    ) -> Result<Self, VocabularyError> {
        let merges = Merges::new(merges, lookup)?;
        let bytes = (0..=u8::MAX)
            .map(|byte| lookup.known(character_of(byte).encode_utf8(&mut [0; 4]).as_bytes()))
            .collect();
        Ok(Self {
            rules: pre.rules,
            merges,
            bytes,
            ignores_merges: pre.ignores_merges,
        })
    }

    /// Appends the tokens of `text` to `tokens`.
    pub(super) fn encode(
        &self,
        text: &str,
        lookup: &Lookup,
        workspace: &mut Workspace,
        tokens: &mut Vec<u32>,
    ) {
        let Workspace {
            glyphs,
            word: written,
            merger,
            looks,
        } = workspace;
        *looks += split(self.rules, text, glyphs, |word| {
            if self.ignores_merges
                && word.len() <= lookup.longest()
                && let Some(token) = lookup.token(as_written(word, written))
            {
                tokens.push(token);
                return;
            }
            merger.clear();
            for byte in word.bytes() {
                let number = self.bytes.get(usize::from(byte));
                merger.push(1, number.copied().unwrap_or(NONE));
            }
            merger.merge(|left, right| self.merges.pair(left.number, right.number));
            for part in merger.parts() {
                if part.number < lookup.tokens() {
                    tokens.push(part.number);
                    continue;
                }
                // No token: its characters' own bytes, as far as they are tokens. llama.cpp does so.
                let start = usize::try_from(part.start).unwrap_or(0);
                let end = start + usize::try_from(part.length).unwrap_or(0);
                let bytes = word.as_bytes().get(start..end).unwrap_or_default();
                for byte in bytes {
                    let character = character_of(*byte);
                    let mut room = [0; 4];
                    let written = character.encode_utf8(&mut room).bytes();
                    tokens.extend(written.filter_map(|byte| lookup.token(&[byte])));
                }
            }
        });
    }
}

/// `word` as the vocabulary writes it.
fn as_written<'a>(word: &str, room: &'a mut Vec<u8>) -> &'a [u8] {
    room.clear();
    for byte in word.bytes() {
        room.extend_from_slice(character_of(byte).encode_utf8(&mut [0; 4]).as_bytes());
    }
    room
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_byte_has_a_character_of_its_own() {
        let all: BTreeSet<char> = (0..=u8::MAX).map(character_of).collect();
        assert_eq!(all.len(), 256);
        for byte in 0..=u8::MAX {
            assert_eq!(byte_of(character_of(byte)), Some(byte));
        }
        assert_eq!(character_of(b' '), 'Ġ');
        assert_eq!(character_of(b'\n'), 'Ċ');
        assert_eq!(character_of(0xAD), 'Ń');
        assert_eq!(character_of(0xA0), 'ł');
        assert_eq!(
            byte_of('Ń').into_iter().count() + byte_of('ń').into_iter().count(),
            1
        );
    }
}
