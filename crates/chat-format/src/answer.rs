//! From drawn tokens to what may be told of them.
//!
//! ```text
//! token ─▶ detokenise (whole characters) ─▶ parse (text, reasoning, calls) ─▶ stop (text, held back until decided)
//!                                                             ─▶ Told: kind, ids, text; log-probabilities of text
//! ```
//! Each token is told once, in the advance in which its text is decided. So the ids told until the end are exactly the
//! tokens that the answer cost, whatever was held back on the way, or left out.
//!
//! An answer that an earlier attempt began goes through the same steps, so that what waits, waits as it did there; but
//! what the client has of it is not told again.

use std::collections::VecDeque;

use protocol::{DeltaKind, FinishReason};

use crate::detokenise::Detokeniser;
use crate::logprobs::TokenLogprob;
use crate::parse::{Parsed, Parser};
use crate::stop::StopScanner;

/// A token whose text has not been told yet.
#[derive(Debug, Clone)]
struct Waiting {
    token: u32,
    is_told: bool,
    /// Where its bytes end among all bytes of the model.
    bytes_end: usize,
    /// Where its text begins among all text of the model.
    text_begin: usize,
    /// Where it ends, once that is known.
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

/// A part of what is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What the text is.
    pub kind: DeltaKind,
    /// Whole characters. Log-probabilities: JSON.
    pub text: String,
    /// The tokens that the text stands for; every token of an answer is told exactly once.
    pub tokens: Vec<u32>,
}

/// One answer in the making.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Bytes that the client has and that still have to come by.
    given_left: usize,
    detokeniser: Detokeniser,
    parser: Parser,
    stops: StopScanner,
    is_stopped: bool,
    waiting: VecDeque<Waiting>,
    bytes_in: usize,
    text_in: usize,
    /// Where answer text lies among all text of the model: begin and end.
    texts: VecDeque<(usize, usize)>,
    /// Told at the next [`Answer::advance`].
    pieces: Vec<Told>,
    logprobs: Vec<TokenLogprob>,
    /// A buffer.
    parsed: Vec<Parsed>,
}

impl Answer {
    /// An answer that `parser` reads, and that ends before any of `stops` in its text. The client has the first
    /// `given_bytes` bytes of all that will be told; they have to come by first.
    pub fn new(stops: &[String], parser: Parser, given_bytes: usize) -> Self {
        Self {
            given_left: given_bytes,
            detokeniser: Detokeniser::default(),
            parser,
            stops: StopScanner::new(stops),
            is_stopped: false,
            waiting: VecDeque::new(),
            bytes_in: 0,
            text_in: 0,
            texts: VecDeque::new(),
            pieces: Vec::new(),
            logprobs: Vec::new(),
            parsed: Vec::new(),
        }
    }

    /// The client has the first so many bytes of all that will be told.
    pub const fn expect(&mut self, given_bytes: usize) {
        self.given_left = given_bytes;
    }

    /// Takes the next token; `true` where the answer is whole with it: it completed a stop string, or the last call.
    pub fn push(&mut self, drawn: Drawn<'_>) -> bool {
        self.bytes_in += drawn.piece.len();
        self.waiting.push_back(Waiting {
            token: drawn.token,
            is_told: drawn.is_told,
            bytes_end: self.bytes_in,
            text_begin: self.text_in,
            text_end: None,
            logprob: drawn.logprob,
        });
        let mut fresh = String::new();
        self.detokeniser.push(drawn.piece, &mut fresh);
        self.read(&fresh);
        if self.is_stopped || self.parser.is_over() {
            // The stop string's own tokens cost as much as others, but have no text to give probabilities for.
            self.flush();
            self.settle_all(false);
            return true;
        }
        let decided = self.text_in - self.held_bytes();
        while let Some(waiting) = self
            .waiting
            .pop_front_if(|waiting| waiting.text_end.is_some_and(|end| end <= decided))
        {
            self.settle(waiting);
        }
        false
    }

    /// The model is done or may not go on: what was held back is text. `end_token` is the end-of-turn token, if it was drawn.
    pub fn finish(&mut self, end_token: Option<u32>) {
        let mut fresh = String::new();
        self.detokeniser.finish(&mut fresh);
        self.read(&fresh);
        let mut parsed = std::mem::take(&mut self.parsed);
        self.parser.finish(&mut parsed);
        self.take(&mut parsed);
        self.flush();
        self.settle_all(true);
        self.tell_tokens(end_token);
    }

    /// Why an answer ends that is whole.
    pub const fn reason(&self) -> FinishReason {
        if self.parser.calls() > 0 {
            FinishReason::ToolCalls
        } else {
            FinishReason::Stop
        }
    }

    /// Whether a stop string has come.
    pub const fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// What reads the answer.
    pub const fn parser(&self) -> &Parser {
        &self.parser
    }

    /// Bytes of a character that is not whole yet.
    pub fn half_character(&self) -> &[u8] {
        self.detokeniser.pending()
    }

    /// Whether all text that came is told, so that whatever comes begins something new.
    pub const fn holds_nothing(&self) -> bool {
        self.held_bytes() == 0 && self.detokeniser.pending_bytes() == 0
    }

    /// Log-probabilities that are decided, instead of telling them.
    pub fn take_logprobs(&mut self) -> Vec<TokenLogprob> {
        std::mem::take(&mut self.logprobs)
    }

    /// What is new since the last call: nothing, or pieces and the log-probabilities of their text.
    pub fn advance(&mut self, told: &mut Vec<Told>) {
        // Log-probabilities stand after the text that they are of.
        let place = self
            .pieces
            .iter()
            .rposition(|piece| piece.kind == DeltaKind::Text)
            .map_or(told.len() + self.pieces.len(), |index| {
                told.len() + index + 1
            });
        told.append(&mut self.pieces);
        if !self.logprobs.is_empty() {
            // Strings and finite numbers only: serialising cannot fail.
            let text = serde_json::to_string(&self.logprobs).unwrap_or_default();
            self.logprobs.clear();
            let logprobs = Told {
                kind: DeltaKind::Logprobs,
                text,
                tokens: Vec::new(),
            };
            told.insert(place, logprobs);
        }
    }

    /// Text that came and is not decided.
    const fn held_bytes(&self) -> usize {
        self.parser.held_bytes() + self.stops.held_bytes()
    }

    /// New text of the model.
    fn read(&mut self, fresh: &str) {
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
        let mut parsed = std::mem::take(&mut self.parsed);
        self.parser.push(fresh, &mut parsed);
        self.take(&mut parsed);
        self.parsed = parsed;
    }

    fn take(&mut self, parsed: &mut Vec<Parsed>) {
        for piece in parsed.drain(..) {
            if self.is_stopped {
                continue;
            }
            if piece.kind == DeltaKind::Text {
                self.texts
                    .push_back((piece.start, piece.start + piece.text.len()));
                let mut released = String::new();
                self.is_stopped = self.stops.push(&piece.text, &mut released);
                self.release(DeltaKind::Text, &released);
            } else {
                // A stop string lies in one stretch of text.
                self.flush();
                self.release(piece.kind, &piece.text);
            }
        }
    }

    /// Text that was held for a stop string is none.
    fn flush(&mut self) {
        if !self.is_stopped {
            let mut released = String::new();
            self.stops.finish(&mut released);
            self.release(DeltaKind::Text, &released);
        }
    }

    /// Something that is decided: the part of it that the client lacks is to be told.
    fn release(&mut self, kind: DeltaKind, text: &str) {
        // A replaced half of a character may be longer than what the client has of it whole: it is dropped all the same.
        let given = (self.given_left.min(text.len())..=text.len())
            .find(|cut| text.is_char_boundary(*cut))
            .unwrap_or(text.len());
        self.given_left = self.given_left.saturating_sub(given);
        let rest = text.get(given..).unwrap_or_default();
        if !rest.is_empty() {
            self.piece(kind).text.push_str(rest);
        }
    }

    /// The piece to be told that goes on in this kind.
    fn piece(&mut self, kind: DeltaKind) -> &mut Told {
        let index = match self.pieces.last() {
            Some(last) if last.kind == kind => self.pieces.len() - 1,
            Some(_) | None => {
                self.pieces.push(Told {
                    kind,
                    text: String::new(),
                    tokens: Vec::new(),
                });
                self.pieces.len() - 1
            }
        };
        #[expect(clippy::indexing_slicing, reason = "the last one, or just pushed")]
        &mut self.pieces[index]
    }

    fn settle_all(&mut self, has_text: bool) {
        for mut waiting in std::mem::take(&mut self.waiting) {
            waiting.logprob = waiting.logprob.filter(|_| has_text);
            waiting.text_end.get_or_insert(self.text_in);
            self.settle(waiting);
        }
    }

    /// A token's text is decided.
    fn settle(&mut self, waiting: Waiting) {
        if !waiting.is_told {
            self.tell_tokens(Some(waiting.token));
        }
        while self
            .texts
            .pop_front_if(|(_, end)| *end <= waiting.text_begin)
            .is_some()
        {}
        let end = waiting.text_end.unwrap_or(self.text_in);
        if self.texts.front().is_some_and(|(begin, _)| *begin < end) {
            self.logprobs.extend(waiting.logprob);
        }
    }

    /// Ids go with the piece that their text is a part of, or with what is written just now.
    fn tell_tokens(&mut self, tokens: Option<u32>) {
        let Some(token) = tokens else { return };
        let kind = self
            .pieces
            .last()
            .map_or_else(|| self.parser.kind(), |piece| piece.kind);
        self.piece(kind).tokens.push(token);
    }
}

#[cfg(test)]
mod tests;
