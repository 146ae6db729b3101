//! From drawn tokens to what may be told of them.
//!
//! ```text
//! token ─▶ detokenise (whole characters) ─▶ stop (held back until decided) ─▶ Advance: ids, text, log-probabilities
//! ```
//! Each token is told once, in the advance in which its text is whole. So the ids told until the end are exactly the
//! tokens that the answer cost, whatever was held back on the way.

use std::collections::VecDeque;

use protocol::DeltaKind;

use super::detokenise::Detokeniser;
use super::logprobs::TokenLogprob;
use super::stop::StopScanner;
use super::{Advance, JobKey};

/// A token whose text has not been told yet.
#[derive(Debug)]
struct Waiting {
    token: u32,
    /// Where its bytes end among all bytes of the model.
    bytes_end: usize,
    /// Where its text ends among all text, once that is known.
    text_end: Option<usize>,
    logprob: Option<TokenLogprob>,
}

/// One answer in the making.
#[derive(Debug)]
pub struct Answer {
    key: JobKey,
    detokeniser: Detokeniser,
    stops: StopScanner,
    waiting: VecDeque<Waiting>,
    bytes_in: usize,
    text_in: usize,
    text_out: usize,
    /// Told at the next [`Answer::advance`].
    text: String,
    tokens: Vec<u32>,
    logprobs: Vec<TokenLogprob>,
}

impl Answer {
    /// An empty answer that ends before any of `stops`.
    pub fn new(key: JobKey, stops: &[String]) -> Self {
        Self {
            key,
            detokeniser: Detokeniser::default(),
            stops: StopScanner::new(stops),
            waiting: VecDeque::new(),
            bytes_in: 0,
            text_in: 0,
            text_out: 0,
            text: String::new(),
            tokens: Vec::new(),
            logprobs: Vec::new(),
        }
    }

    /// Takes a drawn token; `true` where it completed a stop string, after which the answer is whole.
    pub fn push(&mut self, token: u32, piece: &[u8], logprob: Option<TokenLogprob>) -> bool {
        self.bytes_in += piece.len();
        self.waiting.push_back(Waiting {
            token,
            bytes_end: self.bytes_in,
            text_end: None,
            logprob,
        });
        let mut fresh = String::new();
        self.detokeniser.push(piece, &mut fresh);
        self.text_in += fresh.len();
        let decoded = self.bytes_in - self.detokeniser.pending_bytes();
        for waiting in self.waiting.iter_mut().rev() {
            if waiting.text_end.is_some() {
                break;
            }
            if waiting.bytes_end <= decoded {
                waiting.text_end = Some(self.text_in);
            }
        }
        let told = self.text.len();
        let stopped = self.stops.push(&fresh, &mut self.text);
        self.text_out += self.text.len() - told;
        self.settle();
        if stopped {
            // The stop string's own tokens cost as much as others, but have no text to give probabilities for.
            self.tokens
                .extend(self.waiting.drain(..).map(|waiting| waiting.token));
        }
        stopped
    }

    /// The model is done or may not go on: what was held back is text. `end_token` is the end-of-turn token, if it was drawn.
    pub fn finish(&mut self, end_token: Option<u32>) {
        let mut fresh = String::new();
        self.detokeniser.finish(&mut fresh);
        // Half a character's replacement is not searched for stop strings: no stop string can end in it.
        self.stops.finish(&mut self.text);
        self.text.push_str(&fresh);
        for waiting in self.waiting.drain(..) {
            self.tokens.push(waiting.token);
            self.logprobs.extend(waiting.logprob);
        }
        self.tokens.extend(end_token);
    }

    /// What is new since the last call: nothing, or text, or text and its log-probabilities.
    pub fn advance(&mut self, advances: &mut Vec<Advance>) {
        if self.text.is_empty() && self.tokens.is_empty() {
            return;
        }
        advances.push(Advance {
            key: self.key,
            kind: DeltaKind::Text,
            tokens: std::mem::take(&mut self.tokens),
            bytes: std::mem::take(&mut self.text).into_bytes(),
        });
        if !self.logprobs.is_empty() {
            // Strings and finite numbers only: serialising cannot fail.
            let bytes = serde_json::to_vec(&self.logprobs).unwrap_or_default();
            self.logprobs.clear();
            advances.push(Advance {
                key: self.key,
                kind: DeltaKind::Logprobs,
                tokens: Vec::new(),
                bytes,
            });
        }
    }

    fn settle(&mut self) {
        while let Some(waiting) = self
            .waiting
            .pop_front_if(|waiting| waiting.text_end.is_some_and(|end| end <= self.text_out))
        {
            self.tokens.push(waiting.token);
            self.logprobs.extend(waiting.logprob);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::logprobs::Candidate;
    use proptest::prelude::*;

    fn told(answer: &mut Answer) -> (Vec<u32>, String) {
        let mut advances = Vec::new();
        answer.advance(&mut advances);
        let tokens = advances.iter().flat_map(|a| a.tokens.clone()).collect();
        let text = advances
            .iter()
            .map(|a| String::from_utf8(a.bytes.clone()).expect("whole characters"))
            .collect();
        (tokens, text)
    }

    #[test]
    fn a_token_counts_where_its_character_appears() {
        let mut answer = Answer::new(JobKey(1), &[]);
        let crab = "🦀".as_bytes();
        assert!(!answer.push(10, &crab[..2], None));
        assert_eq!(told(&mut answer), (vec![], String::new()));
        assert!(!answer.push(11, &crab[2..], None));
        assert_eq!(told(&mut answer), (vec![10, 11], "🦀".to_owned()));
    }

    #[test]
    fn held_back_tokens_count_when_they_turn_out_to_be_text() {
        let mut answer = Answer::new(JobKey(1), &["END".to_owned()]);
        assert!(!answer.push(1, b"x E", None));
        assert_eq!(told(&mut answer), (vec![], "x ".to_owned()));
        assert!(!answer.push(2, b"N", None));
        assert!(!answer.push(3, b"TER", None));
        assert_eq!(told(&mut answer), (vec![1, 2, 3], "ENTER".to_owned()));
    }

    #[test]
    fn the_tokens_of_a_stop_string_count_without_text() {
        let mut answer = Answer::new(JobKey(1), &["END".to_owned()]);
        assert!(!answer.push(1, b"a", None));
        assert!(!answer.push(2, b"E", None));
        assert!(answer.push(3, b"ND b", None));
        assert_eq!(told(&mut answer), (vec![1, 2, 3], "a".to_owned()));
    }

    #[test]
    fn the_end_of_turn_token_counts_in_the_last_advance() {
        let mut answer = Answer::new(JobKey(1), &["!!".to_owned()]);
        assert!(!answer.push(1, b"a!", None));
        assert_eq!(told(&mut answer), (vec![], "a".to_owned()));
        answer.finish(Some(2));
        assert_eq!(told(&mut answer), (vec![1, 2], "!".to_owned()));
    }

    #[test]
    fn log_probabilities_follow_their_tokens() {
        let logprob = |id| TokenLogprob {
            id,
            candidate: Candidate {
                token: "a".to_owned(),
                logprob: -0.5,
                bytes: vec![97],
            },
            top: Vec::new(),
        };
        let mut answer = Answer::new(JobKey(7), &[]);
        answer.push(1, b"a", Some(logprob(1)));
        let mut advances = Vec::new();
        answer.advance(&mut advances);
        assert_eq!(advances.len(), 2);
        assert_eq!(advances[1].kind, DeltaKind::Logprobs);
        assert_eq!(
            String::from_utf8_lossy(&advances[1].bytes),
            r#"[{"id":1,"token":"a","logprob":-0.5,"bytes":[97],"top":[]}]"#
        );
    }

    proptest! {
        #[test]
        fn every_token_is_told_once_and_in_order(
            pieces in prop::collection::vec(prop::collection::vec(prop::sample::select(b"ab\xc3\xa9\xf0\x9f\xa6\x80".as_slice()), 0..4), 0..40),
            stop in "[ab]{1,3}",
        ) {
            let mut answer = Answer::new(JobKey(1), &[stop]);
            let (mut tokens, mut count) = (Vec::new(), 0);
            let mut stopped = false;
            for piece in &pieces {
                stopped = answer.push(count, piece, None);
                count += 1;
                tokens.extend(told(&mut answer).0);
                if stopped {
                    break;
                }
            }
            if !stopped {
                answer.finish(None);
                tokens.extend(told(&mut answer).0);
            }
            prop_assert_eq!(tokens, (0..count).collect::<Vec<_>>());
        }
    }
}
