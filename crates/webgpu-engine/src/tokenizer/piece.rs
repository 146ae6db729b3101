//! What a token writes into an answer.

use super::bpe::byte_of;
use super::spm::SPACE;

/// How the texts of a vocabulary are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// Characters stand for bytes.
    Bytes,
    /// U+2581 stands for a space.
    Spaces,
}

/// Appends the bytes for which the text of a normal token stands.
pub(super) fn write_normal(writing: Writing, text: &[u8], bytes: &mut Vec<u8>) {
    match writing {
        Writing::Bytes => write_characters(text, bytes),
        Writing::Spaces => write_spaces(text, bytes),
    }
}

/// Appends the byte of a token `<0xXX>`; nothing where the text is too short for one, zero where there are no digits.
pub(super) fn write_byte(text: &[u8], bytes: &mut Vec<u8>) {
    let Some(digits) = text.get(3..).filter(|digits| !digits.is_empty()) else {
        return;
    };
    let digits = digits
        .iter()
        .take(2)
        .map_while(|it| char::from(*it).to_digit(16));
    let value = digits.fold(0, |value, digit| value << 4 | digit);
    bytes.push(u8::try_from(value).unwrap_or_default());
}

fn write_spaces(text: &[u8], bytes: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(SPACE.as_bytes()) {
            bytes.push(b' ');
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
}

/// A character that stands for no byte is told as llama.cpp tells it: the file is broken, and its reader should see it.
fn write_characters(text: &[u8], bytes: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        let broken = chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER);
        for character in chunk.valid().chars().chain(broken) {
            if let Some(byte) = byte_of(character) {
                bytes.push(byte);
                continue;
            }
            bytes.extend_from_slice(b"[UNK_BYTE_0x");
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                bytes.extend_from_slice(format!("{byte:02x}").as_bytes());
            }
            bytes.extend_from_slice(text);
            bytes.push(b']');
        }
    }
}
