//! From drawn tokens to what may be told of them.
//!
//! ```text
//! token ─▶ detokenise (whole characters) ─▶ stop (held back until decided) ─▶ Advance: ids, text, log-probabilities
//! ```
//! Each token is told once, in the advance in which its text is whole. So the ids told until the end are exactly the
//! tokens that the answer cost, whatever was held back on the way.
//!
//! An answer that an earlier attempt began goes through the same steps, so that what waits, waits as it did there; but
//! what the client has of it is not told again.

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
    is_told: bool,
    /// Where its bytes end among all bytes of the model.
    bytes_end: usize,
    /// Where its text ends among all text, once that is known.
    text_end: Option<usize>,
    logprob: Option<TokenLogprob>,
}

/// A token of the answer, drawn here or before.
#[derive(Debug)]
pub struct Drawn<'p> {
    /// Its id.
    pub token: u32,
    /// Its bytes.
    pub piece: &'p [u8],
    /// Its probability, where that is to be told.
    pub logprob: Option<TokenLogprob>,
    /// Whether the client has its id already.
    pub is_told: bool,
}

/// One answer in the making.
#[derive(Debug)]
pub struct Answer {
    key: JobKey,
    kind: DeltaKind,
    /// Bytes of text that the client has and that still have to come by.
    given_left: usize,
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
        Self::continued(key, stops, DeltaKind::Text, 0)
    }

    /// An answer of which the client has the first `given_bytes` bytes of text; what follows is of `kind`. The given
    /// text has to come by first.
    pub fn continued(key: JobKey, stops: &[String], kind: DeltaKind, given_bytes: usize) -> Self {
        Self {
            key,
            kind,
            given_left: given_bytes,
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

    /// Takes the next token; `true` where it completed a stop string, after which the answer is whole.
    pub fn push(&mut self, drawn: Drawn<'_>) -> bool {
        self.bytes_in += drawn.piece.len();
        self.waiting.push_back(Waiting {
            token: drawn.token,
            is_told: drawn.is_told,
            bytes_end: self.bytes_in,
            text_end: None,
            logprob: drawn.logprob,
        });
        let mut fresh = String::new();
        self.detokeniser.push(drawn.piece, &mut fresh);
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
        let mut released = String::new();
        let stopped = self.stops.push(&fresh, &mut released);
        self.release(&released);
        self.settle();
        if stopped {
            // The stop string's own tokens cost as much as others, but have no text to give probabilities for.
            let waiting = self.waiting.drain(..);
            self.tokens.extend(
                waiting
                    .filter(|waiting| !waiting.is_told)
                    .map(|waiting| waiting.token),
            );
        }
        stopped
    }

    /// The model is done or may not go on: what was held back is text. `end_token` is the end-of-turn token, if it was drawn.
    pub fn finish(&mut self, end_token: Option<u32>) {
        let mut fresh = String::new();
        self.detokeniser.finish(&mut fresh);
        // Half a character's replacement is not searched for stop strings: no stop string can end in it.
        let mut released = String::new();
        self.stops.finish(&mut released);
        released.push_str(&fresh);
        self.release(&released);
        for waiting in self.waiting.drain(..) {
            if !waiting.is_told {
                self.tokens.push(waiting.token);
            }
            self.logprobs.extend(waiting.logprob);
        }
        self.tokens.extend(end_token);
    }

    /// What is new since the last call: nothing, or text, or text and its log-probabilities.
    pub fn advance(&mut self, advances: &mut Vec<Advance>) {
        if !self.text.is_empty() || !self.tokens.is_empty() {
            advances.push(Advance {
                key: self.key,
                kind: self.kind,
                tokens: std::mem::take(&mut self.tokens),
                bytes: std::mem::take(&mut self.text).into_bytes(),
            });
        }
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
            if !waiting.is_told {
                self.tokens.push(waiting.token);
            }
            self.logprobs.extend(waiting.logprob);
        }
    }

    /// Text that is decided: the part of it that the client lacks is to be told.
    fn release(&mut self, text: &str) {
        self.text_out += text.len();
        // A replaced half of a character may be longer than what the client has of it whole: it is dropped all the same.
        let given = (self.given_left.min(text.len())..=text.len())
            .find(|cut| text.is_char_boundary(*cut))
            .unwrap_or(text.len());
        self.given_left = self.given_left.saturating_sub(given);
        self.text.push_str(text.get(given..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::logprobs::Candidate;
    use proptest::prelude::*;

    fn drawn(token: u32, piece: &[u8], logprob: Option<TokenLogprob>) -> Drawn<'_> {
        Drawn {
            token,
            piece,
            logprob,
            is_told: false,
        }
    }

    fn given(token: u32, piece: &[u8]) -> Drawn<'_> {
        Drawn {
            is_told: true,
            ..drawn(token, piece, None)
        }
    }

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
        assert!(!answer.push(drawn(10, &crab[..2], None)));
        assert_eq!(told(&mut answer), (vec![], String::new()));
        assert!(!answer.push(drawn(11, &crab[2..], None)));
        assert_eq!(told(&mut answer), (vec![10, 11], "🦀".to_owned()));
    }

    #[test]
    fn held_back_tokens_count_when_they_turn_out_to_be_text() {
        let mut answer = Answer::new(JobKey(1), &["END".to_owned()]);
        assert!(!answer.push(drawn(1, b"x E", None)));
        assert_eq!(told(&mut answer), (vec![], "x ".to_owned()));
        assert!(!answer.push(drawn(2, b"N", None)));
        assert!(!answer.push(drawn(3, b"TER", None)));
        assert_eq!(told(&mut answer), (vec![1, 2, 3], "ENTER".to_owned()));
    }

    #[test]
    fn the_tokens_of_a_stop_string_count_without_text() {
        let mut answer = Answer::new(JobKey(1), &["END".to_owned()]);
        assert!(!answer.push(drawn(1, b"a", None)));
        assert!(!answer.push(drawn(2, b"E", None)));
        assert!(answer.push(drawn(3, b"ND b", None)));
        assert_eq!(told(&mut answer), (vec![1, 2, 3], "a".to_owned()));
    }

    #[test]
    fn the_end_of_turn_token_counts_in_the_last_advance() {
        let mut answer = Answer::new(JobKey(1), &["!!".to_owned()]);
        assert!(!answer.push(drawn(1, b"a!", None)));
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
        answer.push(drawn(1, b"a", Some(logprob(1))));
        let mut advances = Vec::new();
        answer.advance(&mut advances);
        assert_eq!(advances.len(), 2);
        assert_eq!(advances[1].kind, DeltaKind::Logprobs);
        assert_eq!(
            String::from_utf8_lossy(&advances[1].bytes),
            r#"[{"id":1,"token":"a","logprob":-0.5,"bytes":[97],"top":[]}]"#
        );
    }

    #[test]
    fn what_the_client_has_is_not_told_again() {
        let mut answer = Answer::continued(JobKey(1), &[], DeltaKind::Text, 3);
        assert!(!answer.push(given(1, b"ab")));
        assert!(!answer.push(drawn(2, b"cde", None)));
        assert_eq!(told(&mut answer), (vec![2], "de".to_owned()));
    }

    #[test]
    fn a_stop_string_over_the_seam_never_shows() {
        let mut answer = Answer::continued(JobKey(1), &["END".to_owned()], DeltaKind::Text, 2);
        // The client has "x ", and the token's other half was held back.
        assert!(!answer.push(given(1, b"x E")));
        assert_eq!(told(&mut answer), (vec![], String::new()));
        assert!(answer.push(drawn(2, b"ND.", None)));
        assert_eq!(told(&mut answer), (vec![2], String::new()));
    }

    #[test]
    fn what_was_held_back_before_the_seam_is_told_when_it_is_text() {
        let mut answer = Answer::continued(JobKey(1), &["END".to_owned()], DeltaKind::Text, 2);
        assert!(!answer.push(given(1, b"x E")));
        assert!(!answer.push(drawn(2, b"at", None)));
        assert_eq!(told(&mut answer), (vec![2], "Eat".to_owned()));
    }

    #[test]
    fn half_of_a_given_character_is_not_replaced() {
        let crab = "🦀".as_bytes();
        let mut answer = Answer::continued(JobKey(1), &[], DeltaKind::Text, crab.len());
        assert!(!answer.push(drawn(1, &crab[..2], None)));
        answer.finish(None);
        assert_eq!(told(&mut answer), (vec![1], String::new()));
    }

    #[test]
    fn an_answer_goes_on_in_the_kind_it_had() {
        let mut answer = Answer::continued(JobKey(1), &[], DeltaKind::Reasoning, 0);
        answer.push(drawn(1, b"a", None));
        let mut advances = Vec::new();
        answer.advance(&mut advances);
        assert_eq!(advances[0].kind, DeltaKind::Reasoning);
    }

    proptest! {
        #[test]
        fn whatever_was_given_the_whole_is_the_same(
            text in "[ab\u{e9}]{0,30}",
            stop in "[ab\u{e9}]{1,3}",
            cut in 0usize..30,
            size in 1usize..4,
        ) {
            let whole = |given_bytes: usize, given_tokens: usize| {
                let stops = [stop.clone()];
                let mut answer = Answer::continued(JobKey(1), &stops, DeltaKind::Text, given_bytes);
                let mut stopped = false;
                for (token, piece) in (0u32..).zip(text.as_bytes().chunks(size)) {
                    let is_told = (token as usize) < given_tokens;
                    stopped = answer.push(Drawn { is_told, ..drawn(token, piece, None) });
                    if stopped {
                        break;
                    }
                }
                if !stopped {
                    answer.finish(None);
                }
                told(&mut answer)
            };
            let (tokens, all) = whole(0, 0);
            let cut = (0..=cut.min(all.len())).rev().find(|cut| all.is_char_boundary(*cut)).unwrap_or(0);
            let count = (cut / size).min(tokens.len());
            prop_assert_eq!(whole(cut, count), (tokens[count..].to_vec(), all[cut..].to_owned()));
        }

        #[test]
        fn every_token_is_told_once_and_in_order(
            pieces in prop::collection::vec(prop::collection::vec(prop::sample::select(b"ab\xc3\xa9\xf0\x9f\xa6\x80".as_slice()), 0..4), 0..40),
            stop in "[ab]{1,3}",
        ) {
            let mut answer = Answer::new(JobKey(1), &[stop]);
            let (mut tokens, mut count) = (Vec::new(), 0);
            let mut stopped = false;
            for piece in &pieces {
                stopped = answer.push(drawn(count, piece, None));
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
