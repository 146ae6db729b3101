//! Log-probabilities of tokens, off a row of logits.
//!
//! They are those of the model itself: the softmax of its raw logits, before temperature, penalties, biases and grammars.

use chat_format::logprobs::{Candidate, TokenLogprob};

/// Reads log-probabilities off one row of logits. `piece` gives a token's bytes.
pub fn token_logprob(
    logits: &[f32],
    token: u32,
    top_count: u8,
    piece: impl Fn(u32) -> Vec<u8>,
) -> TokenLogprob {
    let normaliser = sampling::log_sum(logits);
    let candidate = |id: u32, logit: f32| Candidate::new(piece(id), f64::from(logit) - normaliser);
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
