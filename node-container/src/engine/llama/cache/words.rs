//! What tokens say, and which of them only mean something.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::{LlamaTokenAttr, LlamaTokenAttrs};

use chat_format::vocabulary::Vocabulary;

/// Tokens that are equal by id only, whatever they write: a text that spells one is another thing. They are those that
/// the tokeniser looks for by their spellings, of which the template's guard knows a part.
#[derive(Debug, Default)]
pub(in super::super) struct Markers {
    /// By id.
    are: Vec<bool>,
}

impl Markers {
    pub(in super::super) fn of_model(model: &LlamaModel) -> Self {
        let vocab = model.vocab();
        let are = vocab
            .tokens()
            .map(|token| is_marker(vocab.attr(token), &vocab.token_to_piece(token, true, None)))
            .collect();
        Self { are }
    }

    fn has(&self, token: LlamaToken) -> bool {
        let index = usize::try_from(token.0);
        index.is_ok_and(|index| self.are.get(index).is_some_and(|is| *is))
    }
}

#[cfg(test)]
impl FromIterator<bool> for Markers {
    fn from_iter<I: IntoIterator<Item = bool>>(are: I) -> Self {
        Self {
            are: are.into_iter().collect(),
        }
    }
}

/// Whether a token with these attributes, which writes `piece`, may stand for more than what it writes.
fn is_marker(attributes: LlamaTokenAttrs, piece: &[u8]) -> bool {
    // Some vocabularies list runs of white space as tokens of their own. They mean nothing else, and models write them
    // in other tokens than the tokeniser does.
    let is_space = !piece.is_empty() && piece.trim_ascii().is_empty();
    attributes.intersects(LlamaTokenAttr::Control | LlamaTokenAttr::Unknown)
        || (attributes.contains(LlamaTokenAttr::UserDefined) && !is_space)
}

/// What each token of a model says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'v> {
    pub(super) vocabulary: &'v Vocabulary,
    pub(super) markers: &'v Markers,
}

impl<'v> Words<'v> {
    /// The text that a token writes, if it is equal to other tokens that write the same.
    pub(super) fn text(self, token: LlamaToken) -> Option<&'v [u8]> {
        if self.markers.has(token) {
            return None;
        }
        let piece = self.vocabulary.piece(u32::try_from(token.0).ok()?)?;
        (!piece.is_empty()).then_some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(all: &[LlamaTokenAttr]) -> LlamaTokenAttrs {
        let bits = all.iter().map(|one| *one as u32).sum::<u32>();
        LlamaTokenAttrs::try_from(bits).expect("known bits")
    }

    #[test]
    fn what_the_tokeniser_looks_for_is_a_marker() {
        use LlamaTokenAttr::{Byte, Control, LStrip, Normal, Unknown, UserDefined};
        let is = |all: &[LlamaTokenAttr], piece: &[u8]| is_marker(attributes(all), piece);
        assert!(is(&[Control], b"<|im_end|>"));
        assert!(is(&[Control, LStrip], b" "));
        assert!(is(&[Unknown], b"<unk>"));
        assert!(is(&[UserDefined], b"<tool_call>"));
        assert!(is(&[UserDefined], b""));
        assert!(!is(&[UserDefined], b"\n\n"));
        assert!(!is(&[Normal], b"<"));
        assert!(!is(&[Byte], b"\xff"));
    }
}
