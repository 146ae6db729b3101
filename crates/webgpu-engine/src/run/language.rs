//! How a model is talked to: by its file's own template, its vocabulary and the syntax that the two of them tell.

use chat_format::family::{Calls, Syntax};
use chat_format::parse::Parser;
use chat_format::template::{ChatTemplate, Piece, SpecialTokens, Spelling, TemplateError};
use chat_format::vocabulary::Vocabulary;
use chrono::{DateTime, Utc};
use protocol::{ChatRequest, ErrorCode, Failure};

use super::{Engine, RunError, TextError};
use crate::tokenizer::{Encoding, Tokenizer};

/// Everything is text.
const PLAIN: Syntax = Syntax {
    reasoning: None,
    calls: Calls::Unknown,
};

/// What has to be known of a model to talk to it.
#[derive(Debug)]
pub struct Language {
    template: Result<ChatTemplate, TemplateError>,
    syntax: Syntax,
    vocabulary: Vocabulary,
    /// Bytes of the longest text of one token.
    piece_bytes_max: usize,
}

/// What a model reads, and what reads its answer.
#[derive(Debug, Clone)]
pub struct TextPrompt {
    pub(super) tokens: Vec<u32>,
    pub(super) parser: Parser,
}

impl Language {
    pub(super) fn of(tokenizer: &Tokenizer, source: Option<&str>) -> Self {
        let has_token = |spelling: &str| encode(tokenizer, spelling, true).len() == 1;
        let text = |token: u32| String::from_utf8_lossy(tokenizer.text(token)).into_owned();
        let named = |token: Option<u32>| token.map(text).unwrap_or_default();
        let tokens = (0..tokenizer.tokens()).map(|token| Spelling {
            text: text(token),
            is_control: tokenizer.is_control(token),
            is_defined: tokenizer.is_user_defined(token),
        });
        let written = source.unwrap_or_default();
        let special = SpecialTokens::of(
            written,
            &Syntax::detect(written, has_token),
            (named(tokenizer.bos()), named(tokenizer.eos())),
            tokens,
        );
        let template = ChatTemplate::new(source.map(str::to_owned), special);
        let known = template.as_ref().ok();
        let syntax = known.map_or(PLAIN, |template| Syntax::of(template, has_token));
        let count = tokenizer.tokens();
        let vocabulary = Vocabulary::of(
            count,
            &syntax,
            |token| tokenizer.is_control(token),
            |token, special| tokenizer.decode(&[token], special),
        );
        let lengths = (0..count).map(|token| tokenizer.decode(&[token], true).len());
        Self {
            template,
            syntax,
            vocabulary,
            piece_bytes_max: lengths.max().unwrap_or(1).max(1),
        }
    }

    /// The file's own template, or why it cannot be used.
    pub const fn template(&self) -> Result<&ChatTemplate, &TemplateError> {
        self.template.as_ref()
    }

    /// What the model writes beside plain text.
    pub const fn syntax(&self) -> Syntax {
        self.syntax
    }

    /// What each token writes into an answer.
    pub const fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }
}

impl TextPrompt {
    /// A prompt of tokens. All of the answer is plain text.
    pub fn of_tokens(tokens: Vec<u32>) -> Self {
        Self {
            tokens,
            parser: Parser::new(PLAIN, &ChatRequest::default(), ""),
        }
    }

    /// Its tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
}

impl Engine {
    /// The file's own chat template, with the special tokens of its vocabulary, or why it cannot be used.
    pub fn chat_template(&self) -> Result<&ChatTemplate, &TemplateError> {
        self.language().template()
    }

    /// A plain text to go on with: nothing in it is a control token, and all of the answer is plain text.
    pub fn text_prompt(&self, text: &str) -> Result<TextPrompt, TextError> {
        self.check_bytes(text.len())?;
        let tokens = encode(self.tokenizer(), text, false);
        Ok(TextPrompt::of_tokens(self.begun(tokens)))
    }

    /// A conversation, in the words of the file's template. `now` is for templates that write the date.
    pub fn chat_prompt(
        &self,
        request: &ChatRequest,
        now: DateTime<Utc>,
    ) -> Result<TextPrompt, TextError> {
        request.validate().map_err(|invalid| {
            Failure::new(ErrorCode::InvalidRequest, invalid.message).with_param(invalid.param)
        })?;
        let template = self.chat_template();
        let template = template.map_err(|error| TextError::Template(error.to_string()))?;
        let prompt = template.render(request, now)?;
        self.check_bytes(prompt.texts().map(str::len).sum())?;
        let mut tokens = Vec::new();
        for piece in &prompt.pieces {
            match piece {
                Piece::Text(text) => tokens.extend(encode(self.tokenizer(), text, true)),
                Piece::Image { .. } => return Err(blind().into()),
            }
        }
        let tokens = self.begun(tokens);
        if tokens.is_empty() {
            return Err(RunError::Empty.into());
        }
        let parser = Parser::new(self.language().syntax, request, &prompt.text());
        Ok(TextPrompt { tokens, parser })
    }

    /// Many templates write the beginning-of-sequence token themselves; twice would confuse the model.
    fn begun(&self, mut tokens: Vec<u32>) -> Vec<u32> {
        let bos = self.tokenizer().bos();
        let bos = bos.filter(|_| self.tokenizer().adds_bos());
        if let Some(bos) = bos.filter(|bos| tokens.first() != Some(bos)) {
            tokens.insert(0, bos);
        }
        tokens
    }

    /// Tokenising takes seconds for megabytes, which would not fit anyway.
    fn check_bytes(&self, bytes: usize) -> Result<(), TextError> {
        let context = self.demand().context_tokens;
        let tokens = bytes / self.language().piece_bytes_max;
        if u32::try_from(tokens).is_ok_and(|tokens| tokens < context) {
            return Ok(());
        }
        Err(TextError::TooLong { bytes, context })
    }
}

/// The tokens of a text; none where it is too long, which is checked before.
pub(super) fn encode(tokenizer: &Tokenizer, text: &str, parse_special: bool) -> Vec<u32> {
    if text.is_empty() {
        return Vec::new();
    }
    let encoding = Encoding {
        add_special: false,
        parse_special,
    };
    tokenizer.encode(text, encoding).unwrap_or_default()
}

fn blind() -> Failure {
    Failure::new(
        ErrorCode::CapabilityMissing,
        "this model does not take images; leave them out",
    )
    .with_param("messages")
}
