//! What an earlier attempt left of an answer → where this one goes on.
//!
//! ```text
//! ids of this very model ─▶ as many as lead to the given pieces    ─▶ known: read after the prompt
//! pieces beyond them     ─▶ written as this model would, tokenised,
//!                           the open end taken back                ─▶ known, then forced
//! ```
//! Ids go through the same steps as they did when they were drawn ([`Answer`]), and have to
//! lead to the same text, thoughts and calls. Pieces without ids are written back in the model's own syntax.
//!
//! **Known** tokens are read like a prompt. **Forced** bytes are drawn again, held to tokens that write just these bytes
//! or go on from them: text may end in the middle of what the model would write as one token, and then its next token
//! makes no sense to it. The client has all of this; only what lies beyond is told.

use std::collections::VecDeque;

use protocol::answer::PieceKind;
use protocol::{DeltaKind, ErrorCode, Failure, FinishReason};
use serde::de::IgnoredAny;

use crate::answer::{Answer, Drawn};
use crate::logprobs::TokenLogprob;
use crate::parse::{Parsed, Parser, Part, Written};
use crate::stop::StopScanner;
use crate::vocabulary::Vocabulary;

/// Tokens of which a client may have the text but not yet the probabilities: a few merged decode steps.
const REPLAYED_MAX: usize = 64;

/// What has to be known of a model.
#[expect(
    missing_debug_implementations,
    reason = "functions have nothing to show"
)]
pub struct Tongue<'t> {
    /// What each token writes.
    pub vocabulary: &'t Vocabulary,
    /// Whether a token ends the turn.
    pub is_end: &'t dyn Fn(u32) -> bool,
    /// Writes text in tokens, none of them a control token but for markers.
    pub tokenise: &'t dyn Fn(&[Part]) -> Vec<u32>,
    /// An answer of which nothing is told.
    pub fresh: &'t Answer,
}

/// Where an answer goes on.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// Bytes that the client has of what the tokens below lead to.
    pub bytes: usize,
    /// Tokens that it has, for `max_tokens` and the bill.
    pub told_tokens: u32,
    /// Tokens to be read after the prompt, as if they had been drawn here. The last one may be an end of turn.
    pub known: Vec<u32>,
    /// Tokens whose probabilities the client lacks: each is taken as if it were just drawn.
    pub replayed: VecDeque<u32>,
    /// Text beyond all of them.
    pub forced: Forced,
}

impl Given {
    /// Reads a given answer. Its ids are used where `has_ids` says that they are of this model's vocabulary; with
    /// `has_logprobs`, log-probabilities belong to the answer.
    pub fn of(
        answer: &protocol::Answer,
        has_ids: bool,
        has_logprobs: bool,
        tongue: &Tongue<'_>,
    ) -> Result<Self, Failure> {
        answer.validate().map_err(|invalid| {
            Failure::new(ErrorCode::InvalidRequest, invalid.to_string()).with_param("answer")
        })?;
        let pieces = pieces(answer);
        let ids: Vec<u32> = answer
            .pieces
            .iter()
            .filter(|_| has_ids)
            .flat_map(|piece| piece.tokens.iter().copied())
            .collect();
        let mut agreed = Agreed::of(&ids, &pieces, has_logprobs, tongue);
        let written = agreed
            .write_on(&pieces)
            .or_else(|| {
                agreed = Agreed::nothing(tongue.fresh);
                agreed.write_on(&pieces)
            })
            .ok_or_else(unfit)?;
        let total: usize = pieces.iter().map(|(_, text)| text.len()).sum();
        let mut given = Self {
            bytes: total - written.left_out,
            told_tokens: u32::try_from(answer.token_count()).unwrap_or(u32::MAX),
            known: ids.get(..agreed.count).unwrap_or_default().to_vec(),
            ..Self::default()
        };
        let are_all_known = has_ids && agreed.count == ids.len();
        let has_gaps = answer
            .pieces
            .iter()
            .any(|piece| is_text(piece.kind) && piece.tokens.is_empty() && !piece.text.is_empty());
        given.go_on(&written, are_all_known, has_gaps, tongue);
        if has_logprobs && are_all_known {
            given.replay(answer, &agreed, tongue);
        }
        Ok(given)
    }

    /// Takes in the text beyond the known tokens.
    fn go_on(
        &mut self,
        written: &Written,
        are_all_known: bool,
        has_gaps: bool,
        tongue: &Tongue<'_>,
    ) {
        let rest = written.text();
        let tokens = (tongue.tokenise)(&written.parts);
        let (agreeing, _) = tongue.vocabulary.agreeing(&tokens, rest.as_bytes());
        let tokens = tokens.get(..agreeing).unwrap_or_default();
        let closed = agreeing - tongue.vocabulary.open_end(tokens);
        let (closed, open) = tokens.split_at(closed);
        let (_, bytes) = tongue.vocabulary.agreeing(closed, rest.as_bytes());
        self.known.extend(closed);
        // A token that was told in part is not counted yet; text without any ids was, by whoever wrote it.
        let is_told = !(are_all_known && closed.is_empty());
        if is_told && has_gaps {
            let ours = u32::try_from(self.known.len() + open.len()).unwrap_or(u32::MAX);
            self.told_tokens = self.told_tokens.max(ours);
        }
        self.forced = Forced {
            bytes: rest.as_bytes().get(bytes..).unwrap_or_default().to_vec(),
            path: open.iter().copied().collect(),
            is_told,
        };
    }

    /// Takes back the tokens whose probabilities the client lacks.
    fn replay(&mut self, answer: &protocol::Answer, agreed: &Agreed, tongue: &Tongue<'_>) {
        let Some(told) = told_logprobs(answer) else {
            return;
        };
        let place = agreed.textual.get(told).copied().unwrap_or(agreed.count);
        let Some(lacking) = self.known.get(place..) else {
            return;
        };
        // An end of turn has none.
        let lacks_any = lacking.iter().any(|token| !(tongue.is_end)(*token));
        if lacks_any && lacking.len() <= REPLAYED_MAX {
            self.replayed = self.known.drain(place..).collect();
        }
    }
}

const fn is_text(kind: PieceKind) -> bool {
    match kind {
        PieceKind::Text | PieceKind::Reasoning | PieceKind::ToolCall => true,
        PieceKind::Logprobs | PieceKind::Unknown => false,
    }
}

/// What the client has of the answer, log-probabilities left out.
pub fn pieces(answer: &protocol::Answer) -> Vec<(DeltaKind, &str)> {
    answer
        .pieces
        .iter()
        .filter(|piece| is_text(piece.kind) && !piece.text.is_empty())
        .filter_map(|piece| Some((piece.kind.delta()?, piece.text.as_str())))
        .collect()
}

/// Whether a stop string stands in the text of an answer: then it had reached its end.
pub fn has_stop(answer: &protocol::Answer, stops: &[String]) -> bool {
    let mut scanner = StopScanner::new(stops);
    pieces(answer).into_iter().any(|(kind, text)| {
        let mut released = String::new();
        if kind == DeltaKind::Text {
            scanner.push(text, &mut released)
        } else {
            scanner.finish(&mut released);
            false
        }
    })
}

/// Why an answer ended that had stopped: as [`Answer::reason`] says of one that was read.
pub fn reason(answer: &protocol::Answer) -> FinishReason {
    let mut kinds = pieces(answer).into_iter().map(|(kind, _)| kind);
    if kinds.any(|kind| kind == DeltaKind::ToolCall) {
        FinishReason::ToolCalls
    } else {
        FinishReason::Stop
    }
}

fn unfit() -> Failure {
    Failure::new(
        ErrorCode::InvalidRequest,
        "this model could not have given the answer so far, so it cannot go on with it",
    )
    .with_param("answer")
}

/// A place in a given answer.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    piece: usize,
    byte: usize,
}

impl Cursor {
    /// The piece that it is in, and what is left of it.
    fn rest<'p>(&mut self, pieces: &[(DeltaKind, &'p str)]) -> Option<(DeltaKind, &'p str)> {
        loop {
            let (kind, text) = pieces.get(self.piece)?;
            match text.get(self.byte..) {
                Some(rest) if !rest.is_empty() => return Some((*kind, rest)),
                Some(_) | None => (self.piece, self.byte) = (self.piece + 1, 0),
            }
        }
    }

    /// Goes over what was told; `false` where it disagrees with the pieces, as far as they go.
    fn take(&mut self, kind: DeltaKind, told: &[u8], pieces: &[(DeltaKind, &str)]) -> bool {
        let mut told = told;
        while !told.is_empty() {
            let Some((expected, rest)) = self.rest(pieces) else {
                return true;
            };
            let common = told.len().min(rest.len());
            if expected != kind || told.get(..common) != rest.as_bytes().get(..common) {
                return false;
            }
            self.byte += common;
            told = told.get(common..).unwrap_or_default();
        }
        true
    }

    fn is_over(&mut self, pieces: &[(DeltaKind, &str)]) -> bool {
        self.rest(pieces).is_none()
    }
}

/// How far ids lead to the given pieces. They may go beyond: text that was held back when they were told.
#[derive(Debug)]
struct Agreed {
    /// So many of them.
    count: usize,
    /// They lead there.
    place: Cursor,
    /// What has read them.
    parser: Parser,
    /// Those that have log-probabilities: tokens of text.
    textual: Vec<usize>,
}

impl Agreed {
    fn nothing(fresh: &Answer) -> Self {
        Self {
            count: 0,
            place: Cursor::default(),
            parser: fresh.parser().clone(),
            textual: Vec::new(),
        }
    }

    fn of(
        ids: &[u32],
        pieces: &[(DeltaKind, &str)],
        has_logprobs: bool,
        tongue: &Tongue<'_>,
    ) -> Self {
        let mut agreed = Self::nothing(tongue.fresh);
        let mut answer = tongue.fresh.clone();
        let (mut place, mut advances) = (Cursor::default(), Vec::new());
        for (index, token) in (0u32..).zip(ids.iter().copied()) {
            let is_end = (tongue.is_end)(token);
            let is_whole = if is_end {
                answer.finish(None);
                true
            } else if let Some(piece) = tongue.vocabulary.piece(token) {
                answer.push(Drawn {
                    token,
                    piece,
                    logprob: has_logprobs.then(|| TokenLogprob::unknown(index)),
                    is_told: true,
                })
            } else {
                break;
            };
            let textual = answer.take_logprobs();
            agreed.textual.extend(
                textual
                    .iter()
                    .filter_map(|entry| usize::try_from(entry.id).ok()),
            );
            answer.advance(&mut advances);
            let fits = advances
                .drain(..)
                .all(|advance| place.take(advance.kind, advance.text.as_bytes(), pieces));
            if !fits {
                break;
            }
            let is_over = place.is_over(pieces);
            if is_over || (answer.holds_nothing() && !is_whole) {
                agreed.count = usize::try_from(index + 1).unwrap_or(usize::MAX);
                agreed.place = place;
                if !is_over {
                    agreed.parser = answer.parser().clone();
                }
            }
            if is_whole {
                break;
            }
        }
        agreed
    }

    /// How this model would write what lies beyond; `None` where it could not.
    fn write_on(&self, pieces: &[(DeltaKind, &str)]) -> Option<Written> {
        let mut place = self.place;
        let mut rest = Vec::new();
        while let Some((kind, text)) = place.rest(pieces) {
            rest.push((kind, text));
            (place.piece, place.byte) = (place.piece + 1, 0);
        }
        if rest.is_empty() {
            return Some(Written::default());
        }
        let written = self.parser.write_on(&rest)?;
        // A part of the text may mean something else to this model.
        let mut parser = self.parser.clone();
        let mut told: Vec<Parsed> = Vec::new();
        parser.push(&written.text(), &mut told);
        if written.left_out > 0 {
            rest.retain(|(kind, _)| *kind != DeltaKind::Reasoning);
        }
        let mut place = Cursor::default();
        told.iter()
            .all(|parsed| place.take(parsed.kind, parsed.text.as_bytes(), &rest))
            .then_some(written)
    }
}

/// How many tokens' probabilities the client has; `None` where they cannot be read.
fn told_logprobs(answer: &protocol::Answer) -> Option<usize> {
    let texts = answer
        .pieces
        .iter()
        .filter(|piece| piece.kind == PieceKind::Logprobs)
        .map(|piece| piece.text.as_str());
    let mut count = 0;
    for text in texts {
        // One array per decode step, joined.
        for array in serde_json::Deserializer::from_str(text).into_iter::<Vec<IgnoredAny>>() {
            count += array.ok()?.len();
        }
    }
    Some(count)
}

/// Bytes that the next tokens have to write.
#[derive(Debug, Clone, Default)]
pub struct Forced {
    bytes: Vec<u8>,
    /// How the model itself would write them.
    path: VecDeque<u32>,
    /// Whether the client was told of tokens for them.
    is_told: bool,
}

impl Forced {
    /// Whether there are none left.
    pub const fn is_over(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The tokens that are known to write the bytes, or a part of them.
    pub fn path(&self) -> impl Iterator<Item = u32> {
        self.path.iter().copied()
    }

    /// The token with which to go on if none that reaches beyond the bytes is likelier.
    pub fn next(&self, vocabulary: &Vocabulary) -> Option<u32> {
        let path = self.path.front().copied();
        path.or_else(|| vocabulary.longest_beginning(&self.bytes))
    }

    /// Whether a token writes all of the bytes.
    pub fn is_covered_by(&self, piece: &[u8]) -> bool {
        piece.starts_with(&self.bytes)
    }

    /// Whether a token agrees with the bytes, be it that it writes a part of them.
    pub fn agrees_with(&self, piece: &[u8]) -> bool {
        !piece.is_empty() && (self.is_covered_by(piece) || self.bytes.starts_with(piece))
    }

    /// A token was drawn; `true` where the client has been told of it, as a part of what it was given.
    pub fn take(&mut self, token: u32, piece: &[u8]) -> bool {
        if self.is_over() {
            return false;
        }
        if self.path.pop_front_if(|next| *next == token).is_none() {
            self.path.clear();
        }
        let is_inside = piece.len() <= self.bytes.len();
        self.bytes.drain(..piece.len().min(self.bytes.len()));
        is_inside && self.is_told
    }
}

#[cfg(test)]
mod tests;
