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

/// Reads log-probabilities off one row of logits. `piece` gives a token's bytes.
pub fn token_logprob(
    logits: &[f32],
    token: u32,
    top_count: u8,
    piece: impl Fn(u32) -> Vec<u8>,
) -> TokenLogprob {
    let normaliser = sampling::log_sum(logits);
    let candidate = |id: u32, logit: f32| {
        let bytes = piece(id);
        Candidate {
            token: String::from_utf8_lossy(&bytes).into_owned(),
            logprob: (f64::from(logit) - normaliser).max(LOGPROB_MIN),
            bytes,
        }
    };
    let chosen = usize::try_from(token)
        .ok()
        .and_then(|index| logits.get(index))
        .copied()
        .unwrap_or(f32::NEG_INFINITY);
    TokenLogprob {
        id: token,
        candidate: candidate(token, chosen),
        top: likeliest(logits, usize::from(top_count))
            .into_iter()
            .map(|(id, logit)| candidate(id, logit))
            .collect(),
    }
}

/// The `count` highest logits, highest first; of equals the lower id.
fn likeliest(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(count + 1);
    if count == 0 {
        return best;
    }
    for (id, logit) in (0u32..).zip(logits.iter().copied()) {
        if best.len() == count && best.last().is_some_and(|(_, least)| logit <= *least) {
            continue;
        }
        let place = best.partition_point(|(_, other)| *other >= logit);
        best.insert(place, (id, logit));
        best.truncate(count);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(id: u32) -> Vec<u8> {
        vec![b'a' + u8::try_from(id).expect("few tokens")]
    }

    #[test]
    fn probabilities_of_the_whole_vocabulary_sum_to_one() {
        let logits = [1.0, -2.0, 3.5, 0.0, 3.5];
        let told = token_logprob(&logits, 1, 5, piece);
        let sum: f64 = told.top.iter().map(|c| c.logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        assert_eq!(
            told.top
                .iter()
                .map(|c| c.token.as_str())
                .collect::<Vec<_>>(),
            ["c", "e", "a", "d", "b"]
        );
        assert!((told.candidate.logprob - told.top[4].logprob).abs() < 1e-12);
    }

    #[test]
    fn an_impossible_token_is_still_a_json_number() {
        let told = token_logprob(&[0.0, f32::NEG_INFINITY], 1, 0, piece);
        let json = serde_json::to_value(&told).expect("serialisable");
        assert_eq!(
            json,
            serde_json::json!({"id": 1, "token": "b", "logprob": -9999.0, "bytes": [98], "top": []})
        );
    }
}
