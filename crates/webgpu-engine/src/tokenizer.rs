//! From texts to tokens and back, by what a GGUF file says about its vocabulary; to the id what llama.cpp does.
//!
//! ```text
//! text ─▶ special (set apart) ─▶ BPE: split (words) ─▶ merging ─▶ ids
//!                            └─▶ SPM: spaces escaped ─▶ merging ─▶ ids
//! id ─▶ piece ─▶ bytes
//! ```
//!
//! What it is not: a reader of GGUF, or of chat templates. Other kinds of vocabulary (WPM, UGM, RWKV, and BPE whose
//! pre-tokenizer is not in `pre`'s table) are refused by name.

mod attributes;
mod bpe;
mod category;
mod lookup;
mod merging;
mod piece;
mod pre;
mod special;
mod split;
mod spm;
mod vocabulary;

use attributes::{Attributes, Kinds};
use bpe::{Bpe, Workspace};
use lookup::Lookup;
use piece::{Writing, write_byte, write_normal};
use pre::Pre;
use special::{Piece, Specials};
use spm::{SPACE, Spm};

pub use vocabulary::{
    MERGES_MAX, NamedTokens, TOKEN_BYTES_MAX, TOKENS_MAX, VOCABULARY_BYTES_MAX, Vocabulary,
    VocabularyError,
};

/// Bytes of a text: about four million tokens, more than any context holds. Encoding takes some fifty times as much
/// memory for a while.
pub const TEXT_BYTES_MAX: usize = 16 << 20;

/// How a text is to be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encoding {
    /// Adds BOS and EOS where the vocabulary wants them.
    pub add_special: bool,
    /// Reads control tokens where the text spells them, as chat templates do. A text of a user is never read so.
    pub parse_special: bool,
}

/// A text that is too long to be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a text of {bytes} bytes is longer than {TEXT_BYTES_MAX}")]
pub struct TextTooLong {
    /// Its length.
    pub bytes: usize,
}

/// The vocabulary of a model, ready for use.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    lookup: Lookup,
    kinds: Kinds,
    method: Method,
    /// Those that are set apart where control tokens are read, and where they are not.
    all_specials: Specials,
    user_defined: Specials,
    bos: Option<u32>,
    eos: Option<u32>,
    added_first: Option<u32>,
    added_last: Option<u32>,
}

#[derive(Debug, Clone)]
enum Method {
    Bpe(Bpe),
    Spm { spm: Spm, adds_space: bool },
}

impl Tokenizer {
    /// Makes a tokenizer from `vocabulary`, or says why that cannot be.
    pub fn new(vocabulary: &Vocabulary) -> Result<Self, VocabularyError> {
        vocabulary.check()?;
        let mut lookup = Lookup::new(&vocabulary.tokens)?;
        let pre = match vocabulary.model.as_str() {
            "gpt2" => Some(pre_of(vocabulary)?),
            "llama" => None,
            other => return Err(VocabularyError::UnsupportedModel(other.to_owned())),
        };
        let named = resolved(&vocabulary.named, pre, lookup.tokens());
        let kinds = Kinds::new(vocabulary, &named, &lookup);
        let method = if let Some(pre) = pre {
            let bpe = Bpe::new(pre, &vocabulary.merges, &mut lookup)?;
            Method::Bpe(bpe)
        } else {
            let spm = Spm::new(&vocabulary.scores, &lookup, named.unknown);
            let adds_space = vocabulary.add_space_prefix.unwrap_or(true);
            Method::Spm { spm, adds_space }
        };
        let begins = vocabulary
            .add_bos
            .unwrap_or(pre.is_none_or(|pre| pre.adds_bos));
        let ends = vocabulary.add_eos.unwrap_or(false);
        if begins && named.bos.is_none() {
            return Err(VocabularyError::MissingNamed("BOS"));
        }
        if ends && named.eos.is_none() {
            return Err(VocabularyError::MissingNamed("EOS"));
        }
        Ok(Self {
            all_specials: Specials::new(&kinds, &lookup, |_| true),
            user_defined: Specials::new(&kinds, &lookup, |it| !it.any(Attributes::HIDDEN)),
            lookup,
            kinds,
            method,
            bos: named.bos,
            eos: named.eos,
            added_first: named.bos.filter(|_| begins),
            added_last: named.eos.filter(|_| ends),
        })
    }

    /// The tokens of `text`.
    pub fn encode(&self, text: &str, encoding: Encoding) -> Result<Vec<u32>, TextTooLong> {
        Ok(self.encode_counting(text, encoding)?.0)
    }

    /// The tokens, and how many steps they took, which is what the time depends on.
    fn encode_counting(
        &self,
        text: &str,
        encoding: Encoding,
    ) -> Result<(Vec<u32>, usize), TextTooLong> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TextTooLong { bytes: text.len() });
        }
        let mut workspace = Workspace::default();
        let mut tokens = Vec::new();
        if encoding.add_special {
            tokens.extend(self.added_first);
        }
        let specials = if encoding.parse_special {
            &self.all_specials
        } else {
            &self.user_defined
        };
        let mut begins = true;
        let proposals = specials.cut(text, |piece| match piece {
            Piece::Token(token) => {
                tokens.push(token);
                begins = true;
            }
            Piece::Text(text) => {
                self.encode_text(text, begins, &mut workspace, &mut tokens);
                begins = false;
            }
        });
        if encoding.add_special {
            tokens.extend(self.added_last);
        }
        let steps = proposals + workspace.looks + workspace.merger.steps;
        Ok((tokens, steps))
    }

    /// `begins`: nothing but special tokens comes before.
    fn encode_text(
        &self,
        text: &str,
        begins: bool,
        workspace: &mut Workspace,
        tokens: &mut Vec<u32>,
    ) {
        match &self.method {
            Method::Bpe(bpe) => bpe.encode(text, &self.lookup, workspace, tokens),
            Method::Spm { spm, adds_space } => {
                let prefix = if *adds_space && begins { SPACE } else { "" };
                let escaped = format!("{prefix}{}", text.replace(' ', SPACE));
                spm.encode(&escaped, &self.lookup, &mut workspace.merger, tokens);
            }
        }
    }

    /// Appends to `bytes` what `token` writes; nothing for an id beyond the vocabulary. `special` shows control tokens.
    ///
    /// A token's bytes need not be whole characters.
    pub fn write_piece(&self, token: u32, special: bool, bytes: &mut Vec<u8>) {
        if token >= self.lookup.tokens() {
            return;
        }
        let (attributes, text) = (self.kinds.of(token), self.lookup.text(token));
        if !special && attributes.any(Attributes::HIDDEN) {
            return;
        }
        if attributes.any(Attributes::SPECIAL) {
            bytes.extend_from_slice(text);
        } else if attributes.any(Attributes::NORMAL) {
            let writing = match self.method {
                Method::Bpe(_) => Writing::Bytes,
                Method::Spm { .. } => Writing::Spaces,
            };
            write_normal(writing, text, bytes);
        } else if attributes.any(Attributes::BYTE) {
            write_byte(text, bytes);
        }
    }

    /// The bytes of several tokens, one behind the other.
    pub fn decode(&self, tokens: &[u32], special: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for token in tokens {
            self.write_piece(*token, special, &mut bytes);
        }
        bytes
    }

    /// How many tokens there are; ids are below it.
    pub const fn tokens(&self) -> u32 {
        self.lookup.tokens()
    }

    /// The token with which texts begin.
    pub const fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token with which texts end.
    pub const fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Whether an answer is over with `token`: the end of a text, of a turn, of a tool call.
    pub fn is_end(&self, token: u32) -> bool {
        self.kinds.is_end(token)
    }

    /// Whether texts begin with BOS where nobody says otherwise.
    pub const fn adds_bos(&self) -> bool {
        self.added_first.is_some()
    }

    /// Whether `token` is a control token: hidden in answers, and read in texts only where asked for.
    pub fn is_control(&self, token: u32) -> bool {
        self.kinds.of(token).any(Attributes::CONTROL)
    }

    /// Whether `token` was added to the vocabulary with a meaning of its own, and is shown in answers.
    pub fn is_user_defined(&self, token: u32) -> bool {
        self.kinds.of(token).any(Attributes::USER_DEFINED)
    }

    /// The text of `token` as the file writes it; empty for an id beyond the vocabulary.
    pub fn text(&self, token: u32) -> &[u8] {
        if token < self.lookup.tokens() {
            self.lookup.text(token)
        } else {
            &[]
        }
    }

    /// The token whose text, as the file writes it, is `text`.
    pub fn token(&self, text: &str) -> Option<u32> {
        self.lookup.token(text.as_bytes())
    }
}

fn pre_of(vocabulary: &Vocabulary) -> Result<Pre, VocabularyError> {
    if vocabulary.merges.count() == 0 {
        return Err(VocabularyError::NoMerges);
    }
    let name = vocabulary.pre.as_deref().unwrap_or_default();
    Pre::named(name).ok_or_else(|| VocabularyError::UnsupportedPreTokenizer(name.to_owned()))
}

/// The named tokens that are in the vocabulary, and llama.cpp's defaults for those that the file does not name.
fn resolved(named: &NamedTokens, pre: Option<Pre>, tokens: u32) -> NamedTokens {
    let known = |token: Option<u32>| token.filter(|token| *token < tokens);
    let or = |token: Option<u32>, default: Option<u32>| known(token).or(known(default));
    let (bos, eos, unknown) = match pre {
        Some(pre) => (pre.has_bos.then_some(11), Some(11), None),
        None => (Some(1), Some(2), Some(0)),
    };
    NamedTokens {
        bos: or(named.bos, bos),
        eos: or(named.eos, eos),
        eot: known(named.eot),
        eom: known(named.eom),
        unknown: or(named.unknown, unknown),
        fim_pre: known(named.fim_pre),
        fim_suf: known(named.fim_suf),
        fim_mid: known(named.fim_mid),
        fim_pad: known(named.fim_pad),
        fim_rep: known(named.fim_rep),
        fim_sep: known(named.fim_sep),
    }
}

#[cfg(test)]
mod tests;
