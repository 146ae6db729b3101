//! The answer of a job: a function of the job alone, so that every byte of every attempt can be checked by anybody.
//!
//! A script is a list of pieces, one for each token (and one for each token's log-probabilities, which are no token). Token
//! ids depend on the model too: two models have different vocabularies.

use std::rc::Rc;

use protocol::{Answer, DeltaKind, FinishReason};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Characters of one to four bytes, so that a cut between bytes would show.
const LETTERS: [&str; 12] = [
    "a", "e", " ", "\n", "{", "\"", "ß", "é", "漢", "字", "🙂", "🚀",
];

/// What one decode step adds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    /// Where the stream stands after it.
    pub(crate) end: u32,
    /// What its bytes are.
    pub(crate) kind: DeltaKind,
    /// Whether it stands for a token.
    pub(crate) is_token: bool,
}

/// What kind of answer it is.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is drawn by itself")]
pub(crate) struct Shape {
    /// Tokens that the model would say.
    pub(crate) tokens: u32,
    /// Whether tokens are long: such an answer fills the window.
    pub(crate) is_wide: bool,
    /// Whether it reasons first.
    pub(crate) reasons: bool,
    /// Whether it ends in a tool call.
    pub(crate) calls_tool: bool,
    /// Whether log-probabilities are told.
    pub(crate) has_logprobs: bool,
    /// Tokens that the user allows.
    pub(crate) max_tokens: Option<u32>,
    /// Length of the prompt.
    pub(crate) prompt_tokens: u32,
}

/// The whole answer of a job.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) tokens: u32,
    pub(crate) prompt_tokens: u32,
    pub(crate) finish_reason: FinishReason,
    salt: u64,
}

impl Script {
    /// Draws the answer of this job.
    pub(crate) fn new(shape: Shape, rng: &mut ChaCha8Rng) -> Rc<Self> {
        let allowed = shape.max_tokens.unwrap_or(u32::MAX);
        let mut script = Self {
            pieces: Vec::new(),
            bytes: Vec::new(),
            tokens: shape.tokens.min(allowed),
            prompt_tokens: shape.prompt_tokens,
            finish_reason: if shape.tokens <= allowed {
                FinishReason::Stop
            } else {
                FinishReason::Length
            },
            salt: rng.random(),
        };
        for index in 0..script.tokens {
            let kind = if shape.reasons && index < shape.tokens / 3 {
                DeltaKind::Reasoning
            } else if shape.calls_tool && index >= shape.tokens - shape.tokens / 3 {
                DeltaKind::ToolCall
            } else {
                DeltaKind::Text
            };
            // The end-of-turn token has no text, nor has one whose text is held back.
            let is_silent = index + 1 == shape.tokens || rng.random_ratio(1, 16);
            let letters = match (is_silent, shape.is_wide) {
                (true, _) => 0,
                (false, true) => rng.random_range(100..400),
                (false, false) => rng.random_range(1..4),
            };
            script.push(kind, true, letters, rng);
            if shape.has_logprobs && !is_silent {
                script.push(DeltaKind::Logprobs, false, 2, rng);
            }
        }
        Rc::new(script)
    }

    fn push(&mut self, kind: DeltaKind, is_token: bool, letters: usize, rng: &mut ChaCha8Rng) {
        for _ in 0..letters {
            let letter = LETTERS[rng.random_range(0..LETTERS.len())];
            self.bytes.extend_from_slice(letter.as_bytes());
        }
        let end = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.pieces.push(Piece {
            end,
            kind,
            is_token,
        });
    }

    /// Bytes of the whole answer.
    pub(crate) fn length(&self) -> u32 {
        self.pieces.last().map_or(0, |piece| piece.end)
    }

    /// The bytes of a range; `None` beyond the end.
    pub(crate) fn range(&self, from: u32, to: u32) -> Option<&[u8]> {
        self.bytes
            .get(usize::try_from(from).ok()?..usize::try_from(to).ok()?)
    }

    /// A token's id in a model's vocabulary.
    pub(crate) fn token_id(&self, model: &str, piece: usize) -> u32 {
        let mut hash = self.salt ^ 0x9E37_79B9_7F4A_7C15;
        for byte in model.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        hash = (hash ^ piece as u64).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        u32::try_from(hash >> 44).unwrap_or(0)
    }

    /// Where a model goes on with what a client has, and what is wrong with it, if anything is.
    pub(crate) fn resume(&self, model: &str, answer: &Answer) -> (usize, Option<String>) {
        let length = u32::try_from(answer.bytes()).unwrap_or(u32::MAX);
        let by_bytes = self.pieces.partition_point(|piece| piece.end <= length);
        let complaint = self.check_text(answer).err();
        if complaint.is_some() || answer.model.as_deref() != Some(model) {
            return (by_bytes, complaint);
        }
        match self.resume_by_tokens(model, answer, length) {
            Ok(index) => (index, None),
            Err(complaint) => (by_bytes, Some(complaint)),
        }
    }

    fn check_text(&self, answer: &Answer) -> Result<(), String> {
        let mut at = 0_usize;
        for piece in &answer.pieces {
            let text = piece.text.as_bytes();
            if self.bytes.get(at..at + text.len()) != Some(text) {
                return Err(format!("the carried text differs at byte {at} or after"));
            }
            at += text.len();
        }
        Ok(())
    }

    fn resume_by_tokens(&self, model: &str, answer: &Answer, offset: u32) -> Result<usize, String> {
        let mut given = answer.pieces.iter().flat_map(|piece| &piece.tokens);
        let mut index = 0;
        while let Some(piece) = self.pieces.get(index) {
            if piece.is_token {
                match given.next() {
                    None => break,
                    Some(&id) if id == self.token_id(model, index) => {}
                    Some(_) => return Err(format!("the carried token of piece {index} differs")),
                }
            } else if piece.end > offset {
                break;
            }
            index += 1;
        }
        if given.next().is_some() {
            return Err("more tokens are carried than the answer has".into());
        }
        let stands_at = index
            .checked_sub(1)
            .map_or(0, |before| self.pieces[before].end);
        if stands_at == offset {
            Ok(index)
        } else {
            Err(format!(
                "the carried tokens end at byte {stands_at}, the text at {offset}"
            ))
        }
    }
}
