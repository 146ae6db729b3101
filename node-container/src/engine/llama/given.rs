//! What an earlier attempt left of an answer → where this one goes on.
//!
//! ```text
//! ids of this very model ─▶ as many as agree with the text      ─▶ known: read after the prompt
//! text beyond them       ─▶ tokenised, its open end taken back  ─▶ known, then forced
//! ```
//! **Known** tokens are read like a prompt. **Forced** bytes are drawn again, held to tokens that write just these bytes
//! or go on from them: text may end in the middle of what the model would write as one token, and then its next token
//! makes no sense to it. The client has all of this; only what lies beyond is told.

use std::collections::VecDeque;

use protocol::answer::{Piece, PieceKind};
use protocol::{Answer, DeltaKind, ErrorCode, Failure};
use serde::de::IgnoredAny;

use crate::engine::detokenise::Detokeniser;
use crate::engine::vocabulary::Vocabulary;

/// Tokens of which a client may have the text but not yet the probabilities: a few merged decode steps.
const REPLAYED_MAX: usize = 64;

/// What has to be known of a model.
pub(super) struct Tongue<'t> {
    pub(super) vocabulary: &'t Vocabulary,
    /// Whether a token ends the turn.
    pub(super) is_end: &'t dyn Fn(u32) -> bool,
    /// Writes text in tokens, none of them a control token.
    pub(super) tokenise: &'t dyn Fn(&str) -> Vec<u32>,
}

/// Where an answer goes on.
#[derive(Debug)]
pub(super) struct Given {
    /// What the client has of the answer's text.
    pub(super) text: String,
    /// Tokens that it has, for `max_tokens` and the bill.
    pub(super) told_tokens: u32,
    /// What follows is of this kind.
    pub(super) kind: DeltaKind,
    /// Tokens to be read after the prompt, as if they had been drawn here. The last one may be an end of turn.
    pub(super) known: Vec<u32>,
    /// Tokens whose probabilities the client lacks: each is taken as if it were just drawn.
    pub(super) replayed: VecDeque<u32>,
    /// Text beyond all of them.
    pub(super) forced: Forced,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            text: String::new(),
            told_tokens: 0,
            kind: DeltaKind::Text,
            known: Vec::new(),
            replayed: VecDeque::new(),
            forced: Forced::default(),
        }
    }
}

impl Given {
    /// Reads a given answer. Its ids are used where `has_ids` says that they are of this model's vocabulary; with
    /// `has_logprobs`, log-probabilities belong to the answer.
    pub(super) fn of(
        answer: &Answer,
        has_ids: bool,
        has_logprobs: bool,
        tongue: &Tongue<'_>,
    ) -> Result<Self, Failure> {
        answer.validate().map_err(|invalid| {
            Failure::new(ErrorCode::InvalidRequest, invalid.to_string()).with_param("answer")
        })?;
        let texts = answer.pieces.iter().filter(|piece| is_text(piece));
        let text: String = texts.clone().map(|piece| piece.text.as_str()).collect();
        let ids: Vec<u32> = answer
            .pieces
            .iter()
            .filter(|_| has_ids)
            .flat_map(|piece| piece.tokens.iter().copied())
            .collect();
        let (count, covered) = agreeing(&ids, &text, tongue);
        let mut given = Self {
            told_tokens: u32::try_from(answer.token_count()).unwrap_or(u32::MAX),
            kind: texts
                .clone()
                .next_back()
                .and_then(|piece| piece.kind.delta())
                .unwrap_or(DeltaKind::Text),
            known: ids.get(..count).unwrap_or_default().to_vec(),
            ..Self::default()
        };
        let are_all_known = has_ids && count == ids.len();
        let has_gaps = texts
            .clone()
            .any(|piece| piece.tokens.is_empty() && !piece.text.is_empty());
        given.go_on(
            text.get(covered..).unwrap_or_default(),
            are_all_known,
            has_gaps,
            tongue,
        );
        if has_logprobs && are_all_known {
            given.replay(answer, tongue);
        }
        given.text = text;
        Ok(given)
    }

    /// Takes in the text beyond the known tokens.
    fn go_on(&mut self, rest: &str, are_all_known: bool, has_gaps: bool, tongue: &Tongue<'_>) {
        let tokens = (tongue.tokenise)(rest);
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
    fn replay(&mut self, answer: &Answer, tongue: &Tongue<'_>) {
        let Some(told) = told_logprobs(answer) else {
            return;
        };
        let Some(lacking) = self.known.get(told..) else {
            return;
        };
        // An end of turn has none.
        let lacks_any = lacking.iter().any(|token| !(tongue.is_end)(*token));
        if lacks_any && lacking.len() <= REPLAYED_MAX {
            self.replayed = self.known.drain(told..).collect();
        }
    }
}

fn is_text(piece: &Piece) -> bool {
    match piece.kind {
        PieceKind::Text | PieceKind::Reasoning | PieceKind::ToolCall => true,
        PieceKind::Logprobs | PieceKind::Unknown => false,
    }
}

/// How many of the ids agree with the text, and how much of it they write. They may go beyond it: text that was held
/// back when they were told.
fn agreeing(ids: &[u32], text: &str, tongue: &Tongue<'_>) -> (usize, usize) {
    let mut detokeniser = Detokeniser::default();
    let mut written = String::new();
    let mut best = (0, 0);
    for (count, id) in (1..).zip(ids) {
        let before = written.len();
        let is_end = (tongue.is_end)(*id);
        if is_end {
            detokeniser.finish(&mut written);
        } else if let Some(piece) = tongue.vocabulary.piece(*id) {
            detokeniser.push(piece, &mut written);
        } else {
            break;
        }
        // What was written before agrees.
        let fresh = written.get(before..).unwrap_or_default();
        let rest = text.get(before..).unwrap_or_default();
        if fresh.starts_with(rest) {
            best = (count, text.len());
        } else if is_end || !rest.starts_with(fresh) {
            break;
        } else if detokeniser.pending_bytes() == 0 {
            best = (count, written.len());
        }
        if is_end {
            break;
        }
    }
    best
}

/// How many tokens' probabilities the client has; `None` where they cannot be read.
fn told_logprobs(answer: &Answer) -> Option<usize> {
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
#[derive(Debug, Default)]
pub(super) struct Forced {
    bytes: Vec<u8>,
    /// How the model itself would write them.
    path: VecDeque<u32>,
    /// Whether the client was told of tokens for them.
    is_told: bool,
}

impl Forced {
    pub(super) const fn is_over(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The tokens that are known to write the bytes, or a part of them.
    pub(super) fn path(&self) -> impl Iterator<Item = u32> {
        self.path.iter().copied()
    }

    /// The token with which to go on if none that reaches beyond the bytes is likelier.
    pub(super) fn next(&self, vocabulary: &Vocabulary) -> Option<u32> {
        let path = self.path.front().copied();
        path.or_else(|| vocabulary.longest_beginning(&self.bytes))
    }

    /// Whether a token writes all of the bytes.
    pub(super) fn is_covered_by(&self, piece: &[u8]) -> bool {
        piece.starts_with(&self.bytes)
    }

    /// Whether a token agrees with the bytes, be it that it writes a part of them.
    pub(super) fn agrees_with(&self, piece: &[u8]) -> bool {
        !piece.is_empty() && (self.is_covered_by(piece) || self.bytes.starts_with(piece))
    }

    /// A token was drawn; `true` where the client has been told of it, as a part of what it was given.
    pub(super) fn take(&mut self, token: u32, piece: &[u8]) -> bool {
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
