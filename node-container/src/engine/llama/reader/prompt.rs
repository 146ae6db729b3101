//! A conversation → the tokens of its prompt, and the pictures among them.

use chat_format::parse::Part;
use chat_format::template::{Piece, Prompt};
use llama_cpp_2::token::LlamaToken;
use protocol::{ChatRequest, ErrorCode, Failure};

use super::Reader;
use crate::engine::llama::pictures::{Pictures, Purpose, blind};
use crate::engine::vision::View;

impl Reader<'_> {
    /// Renders a conversation.
    pub(in crate::engine::llama) fn render(
        &self,
        request: &ChatRequest,
    ) -> Result<Prompt, Failure> {
        self.template.render(request, chrono::Utc::now())
    }

    /// Writes a part of an answer in tokens, with the control tokens of markers.
    pub(super) fn tokenise_parts(&self, parts: &[Part]) -> Vec<u32> {
        let encode = |text: &str, special| self.encode(text, special);
        self.vocabulary.tokenise_parts(parts, encode)
    }

    /// Writes text in tokens.
    pub(in crate::engine::llama) fn tokenise_text(&self, text: &str) -> Vec<u32> {
        let encode = |text: &str, special| self.encode(text, special);
        self.vocabulary.tokenise_text(text, encode)
    }

    fn encode(&self, text: &str, special: bool) -> Vec<u32> {
        let tokens = self.model.vocab().tokenize(text.as_bytes(), false, special);
        let ids = tokens.into_iter();
        ids.filter_map(|token| u32::try_from(token.0).ok())
            .collect()
    }

    /// The prompt as tokens, and the pictures in it; for a [`Purpose::Check`] without them.
    pub(in crate::engine::llama) fn tokenise(
        &self,
        request: &ChatRequest,
        prompt: &Prompt,
        purpose: Purpose<'_>,
    ) -> Result<(Vec<LlamaToken>, View), Failure> {
        // Tokenising takes seconds for megabytes, during which other jobs wait to be prepared.
        let bytes: usize = prompt.texts().map(str::len).sum();
        self.check_length(bytes / self.piece_bytes_max, false)?;
        let pictures = self.pictures(request)?;
        let vocab = self.model.vocab();
        let pieces: Vec<Tokenised> = prompt
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) if text.is_empty() => Tokenised::Text(Vec::new()),
                Piece::Text(text) => Tokenised::Text(vocab.tokenize(text.as_bytes(), false, true)),
                // What the template wrote for it is in what the model wants around it.
                Piece::Image { index, written: _ } => Tokenised::Picture(*index),
            })
            .collect();
        // Many templates write the beginning-of-sequence token themselves; twice would confuse the model.
        let first = pieces.iter().find(|piece| !piece.is_empty());
        let mut tokens = Vec::new();
        if vocab.should_add_bos() && !first.is_some_and(|first| first.begins_with(vocab.bos())) {
            tokens.push(vocab.bos());
        }
        let view = self.lay_out(&mut tokens, pieces, pictures, purpose)?;
        if tokens.is_empty() {
            return Err(Failure::new(
                ErrorCode::InvalidRequest,
                "the conversation renders to an empty prompt",
            )
            .with_param("messages"));
        }
        Ok((tokens, view))
    }

    /// Joins text and pictures. Pictures are unpacked only where all of it fits, as far as that can be known.
    fn lay_out(
        &self,
        tokens: &mut Vec<LlamaToken>,
        pieces: Vec<Tokenised>,
        mut pictures: Pictures,
        purpose: Purpose<'_>,
    ) -> Result<View, Failure> {
        let mut view = View::default();
        if !pictures.is_empty() {
            let text: usize = pieces.iter().map(Tokenised::tokens).sum();
            let (shown, are_all) = pictures.tokens();
            self.check_length(tokens.len() + text + shown, are_all)?;
        }
        for piece in pieces {
            match (piece, self.projector) {
                (Tokenised::Text(text), _) => tokens.extend(text),
                (Tokenised::Picture(index), Some(projector)) => {
                    if let Some(sight) = pictures.show(projector, index, purpose)? {
                        view.push(sight, tokens);
                        self.check_length(tokens.len(), false)?;
                    }
                }
                (Tokenised::Picture(_), None) => return Err(blind()),
            }
        }
        pictures.check_end(&view, tokens.len())?;
        Ok(view)
    }

    /// The request's pictures, of which the headers are read.
    fn pictures(&self, request: &ChatRequest) -> Result<Pictures, Failure> {
        match self.projector {
            Some(projector) => Pictures::read(projector, request),
            None if request.has_images() => Err(blind()),
            None => Ok(Pictures::default()),
        }
    }

    /// Whether a prompt of so many tokens, or of so many at least, leaves room for an answer.
    pub(super) fn check_length(&self, tokens: usize, is_exact: bool) -> Result<(), Failure> {
        if u32::try_from(tokens).is_ok_and(|tokens| tokens < self.context_tokens) {
            return Ok(());
        }
        let at_least = if is_exact { "" } else { "at least " };
        Err(Failure::new(
            ErrorCode::ContextLengthExceeded,
            format!(
                "the prompt has {at_least}{tokens} tokens, but this model's context is {} tokens, and the answer needs at least one of them; shorten the conversation",
                self.context_tokens
            ),
        )
        .with_param("messages"))
    }
}

/// A piece of a prompt.
#[derive(Debug)]
enum Tokenised {
    Text(Vec<LlamaToken>),
    /// By number.
    Picture(usize),
}

impl Tokenised {
    fn tokens(&self) -> usize {
        match self {
            Self::Text(tokens) => tokens.len(),
            Self::Picture(_) => 0,
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Text(tokens) => tokens.is_empty(),
            Self::Picture(_) => false,
        }
    }

    fn begins_with(&self, token: LlamaToken) -> bool {
        match self {
            Self::Text(tokens) => tokens.first() == Some(&token),
            Self::Picture(_) => false,
        }
    }
}
