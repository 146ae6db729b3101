//! An answer that is being drawn, as text.

use std::sync::Arc;

use chat_format::vocabulary::Vocabulary;
use protocol::{FinishReason, Usage};

use super::reading::Reading;
use super::{Cancel, Seed, TextEnded, TextError, TextPiece, TextRequest};
use crate::run::{Answer, Drawn, Ended, Request, RunError, Session};

/// An answer that is being drawn. Dropped at any time; the session keeps what was read.
#[derive(Debug)]
pub struct TextAnswer<'s> {
    /// None where nothing is left to be drawn.
    answer: Option<Answer<'s>>,
    reading: Reading,
    cancel: Cancel,
    prompt_tokens: u32,
    cached_tokens: u32,
}

impl Session {
    /// Begins an answer, or goes on with one. When this returns, what was given of it is there again.
    pub async fn answer_text(&mut self, request: TextRequest) -> Result<TextAnswer<'_>, TextError> {
        // All of it that can be refused is, before anything that the session keeps is forgotten.
        request.check(self.engine())?;
        let tokens = request.prompt.tokens.len();
        let mut reading = Reading::new(self.engine(), &request)?;
        let base = request.in_tokens();
        if matches!(request.seed, Seed::Wanted(_)) {
            self.clear();
        }
        let mut cached = 0;
        if reading.ended().is_none() {
            let known = [base.prompt.as_slice(), &reading.tokens].concat();
            cached = self.reuse(&known).min(tokens);
        }
        self.arrive(&base, &mut reading).await?;
        let mut answer = None;
        if reading.ended().is_none() {
            let given = reading.tokens.clone();
            let before = u32::try_from(given.len()).unwrap_or(u32::MAX);
            let request = Request {
                tokens_max: before.saturating_add(reading.room()),
                given,
                ..base
            };
            answer = Some(self.answer(request, None).await?);
        }
        Ok(TextAnswer {
            answer,
            reading,
            cancel: Cancel::default(),
            prompt_tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            cached_tokens: u32::try_from(cached).unwrap_or(u32::MAX),
        })
    }

    /// Takes the tokens whose log-probabilities are lacking, and draws until all of the given text is there again.
    async fn arrive(&mut self, base: &Request, reading: &mut Reading) -> Result<(), RunError> {
        let engine = Arc::clone(self.engine());
        while reading.ended().is_none() {
            if let Some(token) = reading.given.replayed.pop_front() {
                let drawn = if engine.tokenizer().is_end(token) {
                    None
                } else {
                    self.draw_one(base, &reading.tokens, &[token]).await?
                };
                let told = drawn.and_then(|drawn| drawn.told);
                reading.take(token, told.as_ref(), true);
                continue;
            }
            if reading.given.forced.is_over() {
                return Ok(());
            }
            match self.draw_forced(base, reading).await? {
                Some(drawn) => reading.take(drawn.token, drawn.told.as_ref(), false),
                None => reading.end(TextEnded::NothingAllowed),
            }
        }
        Ok(())
    }

    /// A token that writes the given text, or goes on from it.
    async fn draw_forced(
        &mut self,
        base: &Request,
        reading: &Reading,
    ) -> Result<Option<Drawn>, RunError> {
        let engine = Arc::clone(self.engine());
        let vocabulary = engine.language().vocabulary();
        let forced = &reading.given.forced;
        let next = forced.next(vocabulary);
        let fits = those(vocabulary, |token, piece| {
            Some(token) == next || forced.is_covered_by(piece)
        });
        if let [only] = fits.as_slice()
            && base.alternatives.is_none()
            && base.rules.biases.is_empty()
        {
            // There is nothing to be drawn.
            return Ok(Some(Drawn {
                token: *only,
                told: None,
            }));
        }
        let drawn = self.draw_one(base, &reading.tokens, &fits).await?;
        if drawn.is_some() {
            return Ok(drawn);
        }
        // A bias may forbid the usual way to write something.
        let agree = those(vocabulary, |_, piece| forced.agrees_with(piece));
        self.draw_one(base, &reading.tokens, &agree).await
    }

    /// One token out of some, behind those of the answer so far.
    async fn draw_one(
        &mut self,
        base: &Request,
        given: &[u32],
        allowed: &[u32],
    ) -> Result<Option<Drawn>, RunError> {
        let words = self.engine().config().vocabulary.div_ceil(32);
        let mut mask = vec![0u32; usize::try_from(words).unwrap_or(0)];
        for token in allowed {
            let word = usize::try_from(token / 32).ok();
            if let Some(word) = word.and_then(|word| mask.get_mut(word)) {
                *word |= 1 << (token % 32);
            }
        }
        let before = u32::try_from(given.len()).unwrap_or(u32::MAX);
        let request = Request {
            given: given.to_vec(),
            tokens_max: before.saturating_add(1),
            is_masked: true,
            shared: 1,
            ..base.clone()
        };
        self.answer(request, Some(&mask)).await?.next().await
    }
}

/// The tokens that a test holds for.
fn those(vocabulary: &Vocabulary, test: impl Fn(u32, &[u8]) -> bool) -> Vec<u32> {
    let tokens = (0u32..).map_while(|token| Some((token, vocabulary.piece(token)?)));
    tokens
        .filter_map(|(token, piece)| test(token, piece).then_some(token))
        .collect()
}

impl TextAnswer<'_> {
    /// The next piece, or none once the answer has ended. After an error, somebody else goes on from [`Self::tokens`].
    ///
    /// Who does not wait for it to the end may only drop the answer then; to end one early there is [`Self::canceller`].
    pub async fn next(&mut self) -> Result<Option<TextPiece>, TextError> {
        loop {
            if self.cancel.is_cancelled() {
                self.reading.end(TextEnded::Cancelled);
            }
            if let Some(piece) = self.reading.pieces.pop_front() {
                return Ok(Some(piece));
            }
            if self.reading.ended().is_some() {
                self.answer = None;
                return Ok(None);
            }
            let Some(answer) = &mut self.answer else {
                return Ok(None);
            };
            match answer.next().await? {
                Some(drawn) => self.reading.take(drawn.token, drawn.told.as_ref(), false),
                None => self.reading.end(match answer.ended() {
                    Some(Ended::ContextFull) => TextEnded::ContextFull,
                    Some(Ended::EndOfText) => TextEnded::EndOfText,
                    Some(Ended::NothingAllowed) => TextEnded::NothingAllowed,
                    Some(Ended::TokensMax) | None => TextEnded::TokensMax,
                }),
            }
        }
    }

    /// Why the answer has ended. Pieces of it may still be waiting.
    pub const fn ended(&self) -> Option<TextEnded> {
        self.reading.ended()
    }

    /// The same, as clients are told it; none where the answer is not one that a client should have.
    pub const fn finish_reason(&self) -> Option<FinishReason> {
        self.reading.reason()
    }

    /// All tokens of the answer so far, given ones and those whose text is not decided among them: what
    /// [`Given::Tokens`](super::Given::Tokens) wants. None where the given text holds a stop string: it was over, and is
    /// not cut into tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.reading.tokens
    }

    /// What the answer has cost so far.
    pub const fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.reading.told_tokens,
            cached_tokens: self.cached_tokens,
        }
    }

    /// What ends the answer from outside.
    pub fn canceller(&self) -> Cancel {
        self.cancel.clone()
    }
}
