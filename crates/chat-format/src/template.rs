//! The model file's own chat template (Jinja), rendered with minijinja.
//!
//! Templates are written for Hugging Face's renderer: Jinja2 with trimmed blocks, loop controls, Python's string
//! methods, `raise_exception`, `strftime_now` and a `tojson` that writes like Python. All of that is here; a template
//! that needs more is refused when the model is loaded, not in the middle of a job.
//!
//! **Content stays content.** Somebody who writes `<|im_end|>` in a message must not end the turn. Before rendering,
//! every spelling of a control token inside a message is broken by [`SEAM`]; after rendering, the prompt is cut at the
//! seams, and each piece is tokenised alone, so that no piece holds a whole control token that the template did not
//! write. Prompts without such spellings have no seam and are tokenised exactly as usual.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, context};
use protocol::{ChatMessage, ErrorCode, Failure};

/// Marks a cut inside a message. A Unicode noncharacter: never exchanged, so nobody misses it in their text.
const SEAM: char = '\u{fdd0}';

const TEMPLATE_NAME: &str = "chat_template";

/// Marks an error that the template itself raised.
const RAISED: &str = "raised by the template: ";

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

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Pieces to be tokenised one by one. Always at least one.
    pub pieces: Vec<String>,
}

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special: SpecialTokens,
}

impl ChatTemplate {
    /// Compiles a template and tries it on a small conversation.
    pub fn new(source: Option<String>, special: SpecialTokens) -> Result<Self, TemplateError> {
        let source = source
            .filter(|source| !source.trim().is_empty())
            .ok_or(TemplateError::Missing)?;
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| TemplateError::Unusable(error.to_string()))?;
        environment.set_syntax(syntax);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", tojson);
        environment
            .add_template_owned(TEMPLATE_NAME, source)
            .map_err(|error| TemplateError::Unusable(error.to_string()))?;
        let template = Self {
            environment,
            special,
        };
        let trial = ChatMessage::new(protocol::Role::User, "Hello");
        template
            .render_text(&[trial], DateTime::UNIX_EPOCH)
            .map_err(|error| TemplateError::Unusable(error.to_string()))?;
        Ok(template)
    }

    /// Renders a conversation up to where the model has to go on.
    /// `now` is for templates that write the date.
    pub fn render(&self, messages: &[ChatMessage], now: DateTime<Utc>) -> Result<Prompt, Failure> {
        let text = self
            .render_text(messages, now)
            .map_err(|error| refusal(&error))?;
        Ok(Prompt {
            pieces: text.split(SEAM).map(ToOwned::to_owned).collect(),
        })
    }

    fn render_text(&self, messages: &[ChatMessage], now: DateTime<Utc>) -> Result<String, Error> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| {
                let content = self.guarded(&message.content);
                let name = message.name.as_ref().map(|name| self.guarded(name));
                match name {
                    None => context! { role => message.role.as_str(), content },
                    name => context! { role => message.role.as_str(), content, name },
                }
            })
            .collect();
        self.environment
            .get_template(TEMPLATE_NAME)?
            .render(context! {
                messages,
                add_generation_prompt => true,
                bos_token => &self.special.bos,
                eos_token => &self.special.eos,
                strftime_now => Value::from_function(move |format: String| strftime(now, &format)),
            })
    }

    /// `text` with a seam in every spelling of a control token.
    fn guarded(&self, text: &str) -> String {
        let mut guarded = text.replace(SEAM, "");
        // Breaking one spelling cannot make another: it only puts a seam in.
        for spelling in &self.special.control {
            let Some(first) = spelling.chars().next() else {
                continue;
            };
            if guarded.contains(spelling.as_str()) {
                let (head, tail) = spelling.split_at(first.len_utf8());
                guarded = guarded.replace(spelling.as_str(), &format!("{head}{SEAM}{tail}"));
            }
        }
        guarded
    }
}

/// What the client is told. A template's own complaint is part of the model, not of the conversation; other errors may
/// quote what they failed on, so only their kind is told.
fn refusal(error: &Error) -> Failure {
    let message = match error
        .detail()
        .and_then(|detail| detail.strip_prefix(RAISED))
    {
        Some(complaint) => {
            format!("the model's chat template refuses the conversation: {complaint}")
        }
        None => format!(
            "the model's chat template cannot render the conversation ({})",
            error.kind()
        ),
    };
    Failure::new(ErrorCode::InvalidRequest, message).with_param("messages")
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "minijinja hands over arguments by value"
)]
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(
        ErrorKind::InvalidOperation,
        format!("{RAISED}{message}"),
    ))
}

/// The date, as templates put it into their system prompt. UTC: a rig has no place that matters to the reader.
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

/// JSON as Python's `json.dumps` writes it: a space after `,` and `:`, nothing escaped for HTML.
#[expect(
    clippy::needless_pass_by_value,
    reason = "minijinja hands over arguments by value"
)]
fn tojson(value: Value, indent: Option<usize>) -> Result<Value, Error> {
    let broken = |_| Error::new(ErrorKind::BadSerialization, "not JSON");
    let mut bytes = Vec::new();
    if let Some(indent) = indent {
        let spaces = " ".repeat(indent.min(16));
        let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
        serde::Serialize::serialize(&value, &mut serializer).map_err(broken)?;
    } else {
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, PythonFormatter);
        serde::Serialize::serialize(&value, &mut serializer).map_err(broken)?;
    }
    Ok(Value::from_safe_string(
        String::from_utf8(bytes).unwrap_or_default(),
    ))
}

struct PythonFormatter;

impl serde_json::ser::Formatter for PythonFormatter {
    fn begin_array_value<W: std::io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: std::io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: std::io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests;
