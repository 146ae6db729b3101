//! Log-probabilities of tokens, in the shape of an `OpenAI` answer.
//!
//! They are those of the model itself: the softmax of its raw logits, before temperature, penalties, biases and grammars.

use serde::Serialize;

/// A logit of minus infinity would not be a JSON number; `OpenAI` says this for "impossible".
const LOGPROB_MIN: f64 = -9999.0;

/// One token of the answer and the likeliest tokens in its place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenLogprob {
    /// The token's id in the model's vocabulary.
    pub id: u32,
    /// Its text and probability.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// The likeliest tokens, best first.
    pub top: Vec<Candidate>,
}

impl TokenLogprob {
    /// Of a token of which only the place is known.
    pub const fn unknown(id: u32) -> Self {
        Self {
            id,
            candidate: Candidate {
                token: String::new(),
                logprob: 0.0,
                bytes: Vec::new(),
            },
            top: Vec::new(),
        }
    }
}

/// A token that is or could have been.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Its text; bytes that are no text are replaced.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
    /// Its text as bytes, which several tokens together may make a character.
    pub bytes: Vec<u8>,
}

impl Candidate {
    /// A token that writes these bytes.
    pub fn new(bytes: Vec<u8>, logprob: f64) -> Self {
        Self {
            token: String::from_utf8_lossy(&bytes).into_owned(),
            logprob: logprob.max(LOGPROB_MIN),
            bytes,
        }
    }
}
