//! The model file's own chat template (Jinja), rendered with minijinja as Hugging Face's `apply_chat_template` does.
//!
//! Templates are written for Jinja2 with trimmed blocks, loop controls, Python's methods, `raise_exception`,
//! `strftime_now` and a `tojson` that writes like Python (`environment`); a template that needs more is refused when
//! the model is loaded, not in the middle of a job. What a template cannot do is found out then too ([`Abilities`]),
//! and made up for (`conversation`). What others wrote never becomes a control token (`guard`).
//!
//! Known differences to Jinja2: `schema.items` without a call means the key and not the method; tuples show
//! themselves as lists; there is nothing in `none` to loop over, which is no fault; what is joined to a text marked
//! `safe` is not escaped for HTML; a template that joins the parts of a content with something of its own does so
//! around an image too.

mod abilities;
mod bounds;
mod conversation;
mod environment;
mod guard;
mod methods;
mod python;

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};
use protocol::{ChatMessage, ChatRequest, ErrorCode, Failure, Role};

pub use self::abilities::Abilities;
use self::bounds::Bounds;
use self::conversation::Conversation;
use self::environment::TEMPLATE_NAME;
use self::guard::{Care, Guard, Read};
use self::python::Dict;
use crate::family::Syntax;

/// What a template is about.
#[derive(Debug, Clone, Default)]
pub struct SpecialTokens {
    /// Text of the beginning-of-sequence token; empty where there is none.
    pub bos: String,
    /// Text of the end-of-sequence token; empty where there is none.
    pub eos: String,
    /// Spellings of all control tokens.
    pub control: Vec<String>,
}

/// What a vocabulary says of a token that may be special.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spelling {
    /// As the file writes it.
    pub text: String,
    /// Whether it is a control token.
    pub is_control: bool,
    /// Whether it is a token with a meaning that is no control token.
    pub is_defined: bool,
}

impl SpecialTokens {
    /// Those of a vocabulary: what `template` writes for tokens, and what nobody else may spell. `bos` and `eos` are
    /// empty where there is none.
    pub fn of(
        template: &str,
        syntax: &Syntax,
        (bos, eos): (String, String),
        tokens: impl IntoIterator<Item = Spelling>,
    ) -> Self {
        let named = tokens.into_iter().filter_map(|token| {
            let text = token.text;
            // Some models have markers like `<tool_call>` as ordinary tokens with a meaning.
            let is_marker =
                || text.starts_with(['<', '[']) && template.contains(&text) && token.is_defined;
            (!text.is_empty() && (token.is_control || is_marker())).then_some(text)
        });
        // Others are known from the vocabulary alone: the template need not name what only the model writes.
        let control = named.chain(syntax.markers().into_iter().map(ToOwned::to_owned));
        Self {
            bos,
            eos,
            control: control.collect(),
        }
    }
}

/// Why a model's template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file has none.
    #[error(
        "the model file has no chat template (tokenizer.chat_template): use a file of an instruction-tuned model"
    )]
    Missing,
    /// minijinja does not understand it.
    #[error("the model file's chat template cannot be used: {0}")]
    Unusable(String),
}

/// A part of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// To be tokenised alone, control tokens included.
    Text(String),
    /// An image stands here.
    Image {
        /// Which of all images of the request, in order of messages.
        index: usize,
        /// What the template wrote for it, with the model's own markers; empty where it knows no images.
        written: String,
    },
}

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Read one after the other. Always at least one; a text is empty only where all of the prompt is.
    pub pieces: Vec<Piece>,
    /// Whether it ends in a message of the assistant that the answer goes on with.
    pub is_prefill: bool,
}

impl Prompt {
    /// The texts alone, without images.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Image { .. } => None,
        })
    }

    /// All of it in one, as the template wrote it.
    pub fn text(&self) -> String {
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) | Piece::Image { written: text, .. } => text.as_str(),
        });
        pieces.collect()
    }
}

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// What the environment keeps to.
    bounds: Bounds,
    source: String,
    special: SpecialTokens,
    guard: Guard,
    abilities: Abilities,
}

impl ChatTemplate {
    /// Compiles a template and tries it on small conversations.
    pub fn new(source: Option<String>, special: SpecialTokens) -> Result<Self, TemplateError> {
        let source = source
            .filter(|source| !source.trim().is_empty())
            .ok_or(TemplateError::Missing)?;
        let unusable = |error: Error| {
            TemplateError::Unusable(match environment::endless(&error) {
                Some(words) => format!("it {words}"),
                None => error.to_string(),
            })
        };
        let environment = environment::environment(&source, Bounds::TRIAL).map_err(unusable)?;
        let now = DateTime::UNIX_EPOCH;
        let probed = Guard::new(&[], &source);
        let abilities = Abilities::probe(&source, |request, abilities| {
            let conversation = Conversation::new(request, abilities);
            let (variables, _) = conversation.variables(abilities, &probed, Care::Plain);
            let rendered = render(
                (&environment, Bounds::TRIAL),
                &special,
                variables,
                true,
                now,
            )
            .ok()?;
            Some(probed.read(&rendered))
        });
        let mut template = Self {
            guard: Guard::new(&special.control, &source),
            environment,
            bounds: Bounds::TRIAL,
            source,
            special,
            abilities,
        };
        let trial = ChatRequest {
            messages: vec![ChatMessage::new(Role::User, "Hello")],
            ..ChatRequest::default()
        };
        let conversation = Conversation::new(&trial, &template.abilities);
        template
            .read(&conversation, Care::Plain, now)
            .0
            .map_err(unusable)?;
        template.bounds = Bounds::JOB;
        template.environment =
            environment::environment(&template.source, Bounds::JOB).map_err(unusable)?;
        Ok(template)
    }

    /// What the template can do by itself.
    pub const fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// The template's text, by which a model's family is known.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders a conversation up to where the model has to go on. `now` is for templates that write the date.
    pub fn render(&self, request: &ChatRequest, now: DateTime<Utc>) -> Result<Prompt, Failure> {
        let conversation = Conversation::new(request, &self.abilities);
        let mut read = self
            .guarded(&conversation, now)
            .map_err(|error| refusal(&error))?;
        if conversation.is_prefill() {
            end_at_tail(&mut read)?;
        }
        Ok(Prompt {
            pieces: pieces(&read),
            is_prefill: conversation.is_prefill(),
        })
    }

    /// The most careful rendering that is the same as the one without marks.
    fn guarded(&self, conversation: &Conversation<'_>, now: DateTime<Utc>) -> Result<Read, Error> {
        let read = |care| self.read(conversation, care, now);
        let careful = read(Care::Everywhere);
        let careful = match careful {
            (result, false) => return result,
            (result, true) => result,
        };
        let spelled = read(Care::Spelled).0;
        // What a template complains of in contents may be a spelling that is none once it is cut.
        let Ok(plain) = read(Care::Plain).0 else {
            return spelled;
        };
        let same = |result: Result<Read, Error>| result.ok().filter(|read| is_same(read, &plain));
        if let Some(read) = same(careful) {
            return Ok(read);
        }
        let spelled = spelled?;
        if is_same(&spelled, &plain) {
            return Ok(spelled);
        }
        // Else the template looks for control tokens in contents of users. It finds none: they are not.
        Ok(same(read(Care::Trusting).0).unwrap_or(spelled))
    }

    /// Renders once, and says whether marking changed anything.
    fn read(
        &self,
        conversation: &Conversation<'_>,
        care: Care,
        now: DateTime<Utc>,
    ) -> (Result<Read, Error>, bool) {
        let (variables, is_touched) = conversation.variables(&self.abilities, &self.guard, care);
        let is_question = !conversation.is_prefill();
        let rendered = render(
            (&self.environment, self.bounds),
            &self.special,
            variables,
            is_question,
            now,
        );
        (rendered.map(|text| self.guard.read(&text)), is_touched)
    }
}

fn is_same(one: &Read, other: &Read) -> bool {
    one.text == other.text && one.images == other.images && one.tail == other.tail
}

fn render(
    (environment, bounds): (&Environment<'_>, Bounds),
    special: &SpecialTokens,
    variables: Vec<(&'static str, Value)>,
    add_generation_prompt: bool,
    now: DateTime<Utc>,
) -> Result<String, Error> {
    let date = Value::from_function(move |format: String| strftime(now, &format));
    let more = [
        ("add_generation_prompt", Value::from(add_generation_prompt)),
        ("documents", Value::from(())),
        ("bos_token", Value::from(special.bos.as_str())),
        ("eos_token", Value::from(special.eos.as_str())),
        ("strftime_now", date),
    ];
    let mut all = Dict::default();
    for (name, value) in variables.into_iter().chain(more) {
        all.insert(name, value);
    }
    let mut prompt = bounds::Prompt::new(bounds);
    environment
        .get_template(TEMPLATE_NAME)?
        .render_captured_to(all.into_value(), &mut prompt)?;
    prompt.into_text()
}

/// Ends the prompt where the answer goes on, as `continue_final_message=True` does: where the template trims contents,
/// what is before the place is trimmed too.
fn end_at_tail(read: &mut Read) -> Result<(), Failure> {
    let Some(tail) = read.tail else {
        return Err(Failure::new(
            ErrorCode::InvalidRequest,
            "the model's chat template leaves out the assistant's last message, so the answer cannot go on with it; end with a message of the user",
        )
        .with_param("messages"));
    };
    let is_trimmed = read
        .text
        .get(tail..)
        .is_none_or(|rest| !rest.starts_with(' '));
    read.text.truncate(tail);
    if is_trimmed {
        read.text.truncate(read.text.trim_end().len());
    }
    let end = read.text.len();
    read.cuts.retain(|cut| *cut < end);
    read.images.retain(|(_, range)| range.end <= end);
    Ok(())
}

fn pieces(read: &Read) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut begin = 0;
    let mut cuts = read.cuts.iter().copied().peekable();
    let mut push_text = |pieces: &mut Vec<Piece>, mut begin: usize, end: usize| {
        while let Some(cut) = cuts.next_if(|cut| *cut < end) {
            if cut > begin {
                push(pieces, read.text.get(begin..cut));
                begin = cut;
            }
        }
        push(pieces, read.text.get(begin..end));
    };
    for (index, place) in &read.images {
        push_text(&mut pieces, begin, place.start);
        let written = read.text.get(place.clone()).unwrap_or_default().to_owned();
        pieces.push(Piece::Image {
            index: *index,
            written,
        });
        begin = place.end;
    }
    push_text(&mut pieces, begin, read.text.len());
    if pieces.is_empty() {
        pieces.push(Piece::Text(String::new()));
    }
    pieces
}

fn push(pieces: &mut Vec<Piece>, text: Option<&str>) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// What the client is told. A template's own complaint is part of the model, not of the conversation; other errors may
/// quote what they failed on, so only their kind is told.
fn refusal(error: &Error) -> Failure {
    let message = match (environment::complaint(error), environment::endless(error)) {
        (Some(complaint), _) => {
            format!("the model's chat template refuses the conversation: {complaint}")
        }
        (None, Some(words)) => format!("for this conversation the model's chat template {words}"),
        (None, None) => format!(
            "the model's chat template cannot render the conversation ({})",
            error.kind()
        ),
    };
    Failure::new(ErrorCode::InvalidRequest, message).with_param("messages")
}

/// The date, as templates put it into their system prompt. UTC: a node has no place that matters to the reader.
fn strftime(now: DateTime<Utc>, format: &str) -> Result<String, Error> {
    let mut text = String::new();
    write!(text, "{}", now.format(format)).map_err(|_| {
        Error::new(
            ErrorKind::InvalidOperation,
            "strftime_now does not know this format",
        )
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests;
