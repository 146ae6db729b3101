//! Answers as text: pieces of whole characters with the tokens that they stand for, up to a stop string, and answers
//! that go on where an earlier attempt ended. By the same rules as the rig's: most of them are `chat-format`'s.
//!
//! ```text
//! prompt ─▶ what was given of the answer: known tokens are read, forced bytes drawn again ─▶ tokens ─▶ pieces
//! ```

mod answer;
mod reading;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chat_format::logprobs::TokenLogprob;
use protocol::answer::{Piece, PieceKind};
use protocol::limits::{CARRIED_TOKENS_MAX, STOP_BYTES_MAX, STOPS_MAX};
use protocol::{DeltaKind, ErrorCode, Failure};

pub use answer::TextAnswer;

use super::{Engine, Request, RunError, TextPrompt};
use crate::reference::sampling::Rules;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct TextRequest {
    /// What the model reads.
    pub prompt: TextPrompt,
    /// What the client has of the answer.
    pub given: Given,
    /// The answer's text ends before the first of them.
    pub stops: Vec<String>,
    /// How tokens are drawn.
    pub rules: Rules,
    /// What draws depend on, beside their place in the answer.
    pub seed: Seed,
    /// Tokens of the whole answer, those that the client has among them.
    pub tokens_max: u32,
    /// How many alternatives are told with the log-probability of each token; none tells neither.
    pub alternatives: Option<u32>,
    /// Tokens that share one read-back, 1 to 8.
    pub shared: u32,
}

/// What the client has of an answer, by an earlier attempt: only what lies beyond is told.
#[derive(Debug, Clone, Default)]
pub enum Given {
    /// Nothing.
    #[default]
    Nothing,
    /// All tokens that this very model has drawn, and their text, as far as it is decided.
    Tokens(Vec<u32>),
    /// Text, by whatever model. The model goes on with what it would say having said this.
    Text(String),
    /// Pieces, as the wire carries them. Their ids are used where they are of this very model.
    Answer {
        /// The pieces.
        answer: protocol::Answer,
        /// Whether the ids are of this model.
        has_ids: bool,
    },
}

/// What draws depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seed {
    /// The client wants the same text for the same number: the prompt is read from its first token on, since what is
    /// kept was read in other pieces, which can change last digits.
    Wanted(u64),
    /// A number of the caller's randomness.
    Any(u64),
}

/// Why an answer has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextEnded {
    /// The model says so.
    EndOfText,
    /// A stop string came.
    StopString,
    /// All calls that there may be were made.
    CallsMade,
    /// As many tokens as were asked for.
    TokensMax,
    /// The context is full.
    ContextFull,
    /// No token may be drawn.
    NothingAllowed,
    /// The caller wants no more.
    Cancelled,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct TextPiece {
    /// What the text is.
    pub kind: DeltaKind,
    /// Whole characters; may be empty, where tokens have no text.
    pub text: String,
    /// The tokens that the text stands for; every token is told exactly once, the one that ends the turn too.
    pub tokens: Vec<u32>,
    /// Of tokens of text, where they were asked for.
    pub logprobs: Vec<TokenLogprob>,
}

/// Why there is no answer, or why it cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The session cannot.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The request cannot be answered.
    #[error("{0}")]
    Refused(Failure),
    /// The file's chat template cannot be used.
    #[error("{0}")]
    Template(String),
    /// The prompt cannot fit, whatever its tokens are.
    #[error("a prompt of {bytes} bytes is longer than the context of {context} tokens")]
    TooLong {
        /// Of the rendered prompt.
        bytes: usize,
        /// Tokens.
        context: u32,
    },
}

/// Ends an answer from outside, within one token.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// No more is wanted. Too late is no fault.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl From<Failure> for TextError {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl Seed {
    const fn number(self) -> u64 {
        match self {
            Self::Wanted(number) | Self::Any(number) => number,
        }
    }
}

impl TextRequest {
    /// A greedy answer.
    pub fn greedy(prompt: TextPrompt, tokens_max: u32) -> Self {
        Self {
            prompt,
            given: Given::Nothing,
            stops: Vec::new(),
            rules: Rules {
                temperature: 0.0,
                ..Rules::default()
            },
            seed: Seed::Any(0),
            tokens_max,
            alternatives: None,
            shared: 1,
        }
    }

    /// What can be said of it before anything is read: its rules and limits, and that the prompt leaves room for an
    /// answer. What was given of the answer may still be of another model.
    pub fn check(&self, engine: &Engine) -> Result<(), TextError> {
        self.check_limits()?;
        let vocabulary = engine.config().vocabulary;
        let prompt = &self.prompt.tokens;
        self.in_tokens().check(vocabulary)?;
        if let Some(unknown) = prompt.iter().find(|token| **token >= vocabulary) {
            return Err(RunError::UnknownToken(*unknown).into());
        }
        let (tokens, context) = (prompt.len(), engine.demand().context_tokens);
        if u32::try_from(tokens).map_or(true, |tokens| tokens >= context) {
            return Err(RunError::ContextFull { tokens, context }.into());
        }
        Ok(())
    }

    /// The limits are the API's: so much text is held back, and looked through for each token; so many tokens are gone
    /// through at once, without a pause for others.
    fn check_limits(&self) -> Result<(), Failure> {
        let refused = |message: String, param: &str| {
            Err(Failure::new(ErrorCode::InvalidRequest, message).with_param(param))
        };
        let is_wrong = |stop: &String| stop.is_empty() || stop.len() > STOP_BYTES_MAX;
        if self.stops.len() > STOPS_MAX || self.stops.iter().any(is_wrong) {
            return refused(
                format!(
                    "there are at most {STOPS_MAX} stop strings, of 1 to {STOP_BYTES_MAX} bytes each"
                ),
                "stop",
            );
        }
        if let Given::Tokens(tokens) = &self.given
            && tokens.len() > CARRIED_TOKENS_MAX
        {
            return refused(
                format!(
                    "{} tokens were given of an answer; it can go on behind at most {CARRIED_TOKENS_MAX}",
                    tokens.len()
                ),
                "given",
            );
        }
        Ok(())
    }

    /// What is asked for in tokens. That a token ends the turn is read here, so that it can be told.
    fn in_tokens(&self) -> Request {
        Request {
            rules: self.rules.clone(),
            seed: self.seed.number(),
            alternatives: self.alternatives,
            shared: self.shared,
            ignores_end: true,
            ..Request::greedy(self.prompt.tokens.clone(), 0)
        }
    }
}

impl Given {
    /// Parts of an answer as they came, in order. `has_ids` says that their ids are of this model.
    pub fn of_parts(parts: impl IntoIterator<Item = Piece>, has_ids: bool) -> Self {
        Self::Answer {
            answer: protocol::Answer {
                model: None,
                pieces: joined(parts),
            },
            has_ids,
        }
    }
}

/// Parts of a kind in one, as the wire has them: a long answer came in many. Text without ids stays apart from text that
/// has some: its tokens are not counted among those.
fn joined(parts: impl IntoIterator<Item = Piece>) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for mut part in parts {
        match joined.last_mut() {
            Some(last) if last.kind == part.kind && !begins_ids(last, &part) => {
                last.text.push_str(&part.text);
                last.tokens.append(&mut part.tokens);
            }
            Some(_) | None => joined.push(part),
        }
    }
    joined
}

fn begins_ids(last: &Piece, part: &Piece) -> bool {
    let has_none = last.tokens.is_empty() && !last.text.is_empty();
    part.kind == PieceKind::Text && has_none && !part.tokens.is_empty()
}

#[cfg(test)]
mod tests;
