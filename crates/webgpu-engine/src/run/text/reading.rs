//! From tokens to what is told of them, and when the answer is over.

use std::collections::VecDeque;
use std::sync::Arc;

use chat_format::answer::{Answer, Drawn, Told};
use chat_format::given::{self, Tongue, has_stop};
use chat_format::logprobs::{Candidate, TokenLogprob};
use chat_format::parse::Part;
use protocol::answer::{Piece, PieceKind};
use protocol::{DeltaKind, FinishReason};

use super::{Given, TextEnded, TextError, TextPiece, TextRequest, joined};
use crate::run::language::encode;
use crate::run::{Engine, LogProbabilities, RunError};

/// The host's side of an answer.
#[derive(Debug)]
pub(super) struct Reading {
    engine: Arc<Engine>,
    answer: Answer,
    /// Where the answer goes on. Its known tokens have been taken.
    pub(super) given: given::Given,
    prompt_tokens: usize,
    /// Tokens of the answer, as the model reads it.
    pub(super) tokens: Vec<u32>,
    /// Tokens of the answer, as the client counts it.
    pub(super) told_tokens: u32,
    tokens_max: u32,
    /// What is to be told, in order.
    pub(super) pieces: VecDeque<TextPiece>,
    ended: Option<(TextEnded, Option<FinishReason>)>,
}

impl Reading {
    /// Takes in what the client has of the answer.
    pub(super) fn new(engine: &Arc<Engine>, request: &TextRequest) -> Result<Self, TextError> {
        let fresh = Answer::new(&request.stops, request.prompt.parser.clone(), 0);
        let (answer, has_ids) = carried(engine, &request.given, &fresh)?;
        let has_logprobs = match &request.given {
            Given::Answer { .. } => request.alternatives.is_some(),
            Given::Nothing | Given::Tokens(_) | Given::Text(_) => false,
        };
        let (tokenizer, vocabulary) = (engine.tokenizer(), engine.language().vocabulary());
        let is_end = |token| tokenizer.is_end(token);
        let tokenise = |parts: &[Part]| {
            vocabulary.tokenise_parts(parts, |text, special| encode(tokenizer, text, special))
        };
        let tongue = Tongue {
            vocabulary,
            is_end: &is_end,
            tokenise: &tokenise,
            fresh: &fresh,
        };
        let mut given = given::Given::of(&answer, has_ids, has_logprobs, &tongue)?;
        let known = std::mem::take(&mut given.known);
        let mut reading = Self {
            engine: Arc::clone(engine),
            told_tokens: given.told_tokens,
            prompt_tokens: request.prompt.tokens.len(),
            tokens: Vec::new(),
            tokens_max: request.tokens_max,
            pieces: VecDeque::new(),
            ended: None,
            answer: fresh,
            given,
        };
        reading.answer.expect(reading.given.bytes);
        if has_stop(&answer, &request.stops) {
            reading.ended = Some((TextEnded::StopString, Some(given::reason(&answer))));
        }
        for token in known {
            if reading.ended.is_some() {
                break;
            }
            reading.take_known(token);
        }
        reading.end_where_full();
        reading.gather();
        Ok(reading)
    }

    /// Why the answer has ended.
    pub(super) const fn ended(&self) -> Option<TextEnded> {
        match self.ended {
            Some((ended, _)) => Some(ended),
            None => None,
        }
    }

    /// How clients are told why.
    pub(super) const fn reason(&self) -> Option<FinishReason> {
        match self.ended {
            Some((_, reason)) => reason,
            None => None,
        }
    }

    /// A token was drawn. A replayed one is known to the client, but for its log-probability.
    pub(super) fn take(&mut self, token: u32, told: Option<&LogProbabilities>, is_replayed: bool) {
        let engine = Arc::clone(&self.engine);
        let piece = engine.language().vocabulary().piece(token);
        let piece = piece.unwrap_or_default();
        let is_told = is_replayed || self.given.forced.take(token, piece);
        self.told_tokens = self.told_tokens.saturating_add(u32::from(!is_told));
        self.tokens.push(token);
        if engine.tokenizer().is_end(token) {
            self.answer.finish((!is_told).then_some(token));
            self.ended = Some((TextEnded::EndOfText, Some(self.answer.reason())));
        } else {
            let logprob = told.filter(|_| is_replayed || !is_told);
            let is_whole = self.answer.push(Drawn {
                token,
                piece,
                logprob: logprob.map(|told| logprob_of(&engine, token, told)),
                is_told,
            });
            if is_whole {
                self.end_whole();
            }
            self.end_where_full();
        }
        self.gather();
    }

    /// The answer may not go on for another reason. What was held back is text, but nobody waits for a cancelled one's.
    pub(super) fn end(&mut self, ended: TextEnded) {
        if self.ended.is_some() {
            return;
        }
        let reason = match ended {
            TextEnded::Cancelled | TextEnded::NothingAllowed => None,
            TextEnded::TokensMax | TextEnded::ContextFull => Some(FinishReason::Length),
            TextEnded::EndOfText | TextEnded::StopString | TextEnded::CallsMade => {
                Some(self.answer.reason())
            }
        };
        self.ended = Some((ended, reason));
        if ended == TextEnded::Cancelled {
            self.pieces.clear();
        } else {
            self.answer.finish(None);
            self.gather();
        }
    }

    /// Tokens that may still be drawn once nothing is forced.
    pub(super) fn room(&self) -> u32 {
        let context = self.engine.demand().context_tokens;
        let asked = self.tokens_max.saturating_sub(self.told_tokens);
        asked.min(context.saturating_sub(self.length()))
    }

    /// Tokens of prompt and answer.
    fn length(&self) -> u32 {
        u32::try_from(self.prompt_tokens + self.tokens.len()).unwrap_or(u32::MAX)
    }

    fn take_known(&mut self, token: u32) {
        self.tokens.push(token);
        if self.engine.tokenizer().is_end(token) {
            self.answer.finish(None);
            self.ended = Some((TextEnded::EndOfText, Some(self.answer.reason())));
            return;
        }
        let engine = Arc::clone(&self.engine);
        let piece = engine.language().vocabulary().piece(token);
        let is_whole = self.answer.push(Drawn {
            token,
            piece: piece.unwrap_or_default(),
            logprob: None,
            is_told: true,
        });
        if is_whole {
            self.end_whole();
        }
    }

    fn end_whole(&mut self) {
        let ended = if self.answer.is_stopped() {
            TextEnded::StopString
        } else {
            TextEnded::CallsMade
        };
        self.ended = Some((ended, Some(self.answer.reason())));
    }

    fn end_where_full(&mut self) {
        if self.length() >= self.engine.demand().context_tokens {
            self.end(TextEnded::ContextFull);
        } else if self.told_tokens >= self.tokens_max && self.given.replayed.is_empty() {
            self.end(TextEnded::TokensMax);
        }
    }

    /// Log-probabilities go with the last text of those that came together.
    fn gather(&mut self) {
        let logprobs = self.answer.take_logprobs();
        let mut told = Vec::new();
        self.answer.advance(&mut told);
        let last = told.iter().rposition(|it| it.kind == DeltaKind::Text);
        let mut logprobs = Some(logprobs).filter(|it| !it.is_empty());
        for (index, Told { kind, text, tokens }) in told.into_iter().enumerate() {
            let is_last = Some(index) == last;
            let logprobs = logprobs.take_if(|_| is_last).unwrap_or_default();
            self.pieces.push_back(TextPiece {
                kind,
                text,
                tokens,
                logprobs,
            });
        }
        if let Some(logprobs) = logprobs {
            self.pieces.push_back(TextPiece {
                kind: DeltaKind::Text,
                text: String::new(),
                tokens: Vec::new(),
                logprobs,
            });
        }
    }
}

/// What was given, as the wire carries it, and whether its ids are of this model.
fn carried(
    engine: &Engine,
    given: &Given,
    fresh: &Answer,
) -> Result<(protocol::Answer, bool), TextError> {
    let pieces = match given {
        Given::Nothing => Vec::new(),
        Given::Answer { answer, has_ids } => return Ok((answer.clone(), *has_ids)),
        Given::Text(text) => {
            let piece = Piece {
                kind: PieceKind::Text,
                text: text.clone(),
                tokens: Vec::new(),
            };
            let answer = protocol::Answer {
                model: None,
                pieces: vec![piece],
            };
            return Ok((answer, false));
        }
        Given::Tokens(tokens) => told_of(engine, tokens, fresh.clone())?,
    };
    let answer = protocol::Answer {
        model: None,
        pieces,
    };
    Ok((answer, true))
}

/// What a client was told of these tokens. Those whose text was held back are the last ones.
fn told_of(engine: &Engine, tokens: &[u32], mut answer: Answer) -> Result<Vec<Piece>, TextError> {
    let (mut told, mut count) = (Vec::new(), 0);
    for token in tokens {
        count += 1;
        let piece = engine.language().vocabulary().piece(*token);
        let piece = piece.ok_or(RunError::UnknownToken(*token))?;
        let is_end = engine.tokenizer().is_end(*token);
        let is_whole = if is_end {
            answer.finish(Some(*token));
            true
        } else {
            answer.push(Drawn {
                token: *token,
                piece,
                logprob: None,
                is_told: false,
            })
        };
        answer.advance(&mut told);
        if is_whole {
            break;
        }
    }
    let mut pieces: Vec<Piece> = told
        .into_iter()
        .map(|Told { kind, text, tokens }| Piece {
            kind: kind.into(),
            text,
            tokens,
        })
        .collect();
    let known: usize = pieces.iter().map(|piece| piece.tokens.len()).sum();
    pieces.push(Piece {
        kind: PieceKind::Text,
        text: String::new(),
        tokens: tokens.get(known..count).unwrap_or_default().to_vec(),
    });
    Ok(joined(pieces))
}

fn logprob_of(engine: &Engine, token: u32, told: &LogProbabilities) -> TokenLogprob {
    let candidate = |token: u32, logprob: f32| {
        let bytes = engine.tokenizer().decode(&[token], true);
        Candidate::new(bytes, f64::from(logprob))
    };
    let alternatives = told.alternatives.iter();
    TokenLogprob {
        id: token,
        candidate: candidate(token, told.token),
        top: alternatives.map(|(id, it)| candidate(*id, *it)).collect(),
    }
}
