//! SPM: characters of a text merged by the scores of what they become, bytes for what is no token.

use super::lookup::{Lookup, NONE};
use super::merging::{Merger, Part};

/// What SPM writes for a space.
pub(super) const SPACE: &str = "\u{2581}";

/// How an SPM vocabulary writes texts.
#[derive(Debug, Clone)]
pub(super) struct Spm {
    /// By id: the lower, the sooner a token is merged.
    keys: Vec<u32>,
    /// By byte: the token that stands for it.
    bytes: Vec<Option<u32>>,
}

/// Turns the order of scores around and makes it one of whole numbers.
fn key_of(score: f32) -> u32 {
    // Adding zero makes one of both zeros: they are equal scores.
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 0 {
        bits | 1 << 31
    } else {
        !bits
    };
    !ascending
}

impl Spm {
    /// `unknown` is written for a byte for which there is no token; llama.cpp stops the program there.
    pub(super) fn new(scores: &[f32], lookup: &Lookup, unknown: Option<u32>) -> Self {
        let keys = scores.iter().copied().map(key_of).collect();
        let bytes = (0..=u8::MAX)
            .map(|byte| {
                lookup
                    .token(format!("<0x{byte:02X}>").as_bytes())
                    .or_else(|| lookup.token(&[byte]))
                    .or(unknown)
            })
            .collect();
        Self { keys, bytes }
    }

    /// Appends the tokens of `text`, in which spaces are [`SPACE`], to `tokens`.
    pub(super) fn encode(
        &self,
        text: &str,
        lookup: &Lookup,
        merger: &mut Merger,
        tokens: &mut Vec<u32>,
    ) {
        merger.clear();
        for character in text.chars() {
            merger.push(u32::try_from(character.len_utf8()).unwrap_or(0), NONE);
        }
        let read = |start: u32, length: u32| {
            let start = usize::try_from(start).unwrap_or(0);
            let end = start + usize::try_from(length).unwrap_or(0);
            text.as_bytes().get(start..end).unwrap_or_default()
        };
        merger.merge(|left: Part, right: Part| {
            let token = lookup.token(read(left.start, left.length + right.length))?;
            Some((self.key(token), token))
        });
        for part in merger.parts() {
            let piece = read(part.start, part.length);
            match lookup.token(piece) {
                Some(token) => tokens.push(token),
                None => tokens.extend(
                    piece
                        .iter()
                        .filter_map(|byte| *self.bytes.get(usize::from(*byte))?),
                ),
            }
        }
    }

    /// A file without scores has them all equal.
    fn key(&self, token: u32) -> u32 {
        let index = usize::try_from(token).ok();
        let key = index.and_then(|index| self.keys.get(index));
        key.copied().unwrap_or_else(|| key_of(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn higher_scores_have_lower_keys_and_both_zeros_the_same() {
        let scores = [
            f32::INFINITY,
            2.5,
            1e-30,
            0.0,
            -1e-30,
            -1.0,
            -1e4,
            f32::NEG_INFINITY,
        ];
        assert!(scores.is_sorted_by(|one, other| key_of(*one) < key_of(*other)));
        assert_eq!(key_of(0.0), key_of(-0.0));
    }
}
