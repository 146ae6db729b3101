//! Back from the pieces of an answer to what a model would have written for them, so that it can go on.

use protocol::DeltaKind;
use protocol::chat::CALL_BEGIN;

use super::json::{JsonScanner, Scan};
use super::{Parser, State, json};
use crate::family::{Calls, MISTRAL_ARGUMENTS, MISTRAL_OPEN, Markers, Syntax};

/// A piece of raw text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The text.
    pub text: String,
    /// Whether it is a marker, which a vocabulary may have a control token for.
    pub is_marker: bool,
}

/// What a model would have written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// In order.
    pub parts: Vec<Part>,
    /// Bytes of pieces that this model has no way to write: reasoning of another one.
    pub left_out: usize,
}

impl Written {
    /// All of it.
    pub fn text(&self) -> String {
        self.parts.iter().map(|part| part.text.as_str()).collect()
    }
}

/// Where a writer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Nothing is written yet.
    Beginning,
    Reasoning,
    /// After reasoning or a call.
    Between,
    Text,
    /// In the arguments of a call.
    Arguments {
        is_list: bool,
    },
}

struct Writer {
    syntax: Syntax,
    at: At,
    /// Reads the arguments of the current call.
    scanner: JsonScanner,
    /// Whether they are whole.
    is_whole: bool,
    written: Written,
}

impl Parser {
    /// What has to follow what came, for the parser to tell these pieces next, after all that it has told. `None` where
    /// that cannot be: calls that are not offered, or text that is held and does not fit.
    ///
    /// Nothing is written beyond the pieces: what a model writes after the last of them is its own choice.
    pub fn write_on(&self, pieces: &[(DeltaKind, &str)]) -> Option<Written> {
        let mut writer = Writer {
            syntax: self.syntax,
            at: self.place()?,
            scanner: match &self.state {
                State::Calls(block) => block.scanner().clone(),
                State::Text | State::Reasoning { .. } | State::Over => JsonScanner::default(),
            },
            is_whole: false,
            written: Written::default(),
        };
        let mut rest = pieces
            .iter()
            .filter(|(_, text)| !text.is_empty())
            .peekable();
        while let Some((kind, text)) = rest.next() {
            match kind {
                DeltaKind::Text => writer.text(text),
                DeltaKind::Reasoning => writer.reasoning(text)?,
                DeltaKind::ToolCall => {
                    self.offer.as_ref()?;
                    let mut calls = (*text).to_owned();
                    while let Some((_, more)) =
                        rest.next_if(|(kind, _)| *kind == DeltaKind::ToolCall)
                    {
                        calls.push_str(more);
                    }
                    writer.calls(&calls)?;
                }
                DeltaKind::Logprobs => {}
                DeltaKind::Unknown(_) => return None,
            }
        }
        self.without_held(writer.written)
    }

    fn place(&self) -> Option<At> {
        match &self.state {
            State::Text if self.is_trimming => Some(At::Between),
            State::Text if self.has_begun => Some(At::Text),
            State::Text => Some(At::Beginning),
            State::Reasoning { .. } => Some(At::Reasoning),
            State::Calls(block) if block.is_in_arguments() => Some(At::Arguments {
                is_list: block.is_list(),
            }),
            // Not a place that pieces of an answer end in, unless there is nothing more.
            State::Calls(_) | State::Over => None,
        }
    }

    /// What is held has been written already.
    fn without_held(&self, mut written: Written) -> Option<Written> {
        let text = written.text();
        let is_blank = self.held.chars().all(json::is_blank);
        let mut done = if text.starts_with(&self.held) {
            self.held.len()
        } else if is_blank
            && (self.is_trimming || !text.starts_with(json::is_blank))
            && text.len() > self.held.len()
        {
            // White space before something else than text is left out, and here all of it.
            0
        } else {
            return None;
        };
        for part in &mut written.parts {
            let count = done.min(part.text.len());
            part.text.drain(..count);
            done -= count;
            part.is_marker &= count == 0;
        }
        written.parts.retain(|part| !part.text.is_empty());
        Some(written)
    }
}

impl Writer {
    fn put(&mut self, text: &str) {
        self.written.parts.push(Part {
            text: text.to_owned(),
            is_marker: false,
        });
    }

    fn mark(&mut self, marker: &str) {
        if !marker.is_empty() {
            self.written.parts.push(Part {
                text: marker.to_owned(),
                is_marker: true,
            });
        }
    }

    fn text(&mut self, text: &str) {
        self.leave();
        // On the line where a call ended it would part that call from the next.
        if self.at == At::Between
            && matches!(self.syntax.calls, Calls::Bare { .. })
            && text.trim_start().starts_with([';', ','])
        {
            self.put("\n");
        }
        self.put(text);
        self.at = At::Text;
    }

    /// Ends reasoning or a call, so that something else can follow.
    fn leave(&mut self) {
        match (self.at, self.syntax.reasoning) {
            (At::Reasoning, Some(Markers { close, .. })) => {
                self.put("\n");
                self.mark(close);
                self.put("\n\n");
                self.at = At::Between;
            }
            (At::Arguments { is_list }, _) => {
                if self.is_whole {
                    self.close_call(is_list);
                    self.put("\n");
                    self.at = At::Between;
                } else {
                    // It was broken off: what follows was its end.
                    self.at = At::Text;
                }
            }
            (At::Beginning | At::Between | At::Text | At::Reasoning, _) => {}
        }
    }

    fn close_call(&mut self, is_list: bool) {
        match self.syntax.calls {
            Calls::Tagged { close, .. } => {
                self.put(if is_list { "}]" } else { "}\n" });
                self.mark(close);
            }
            Calls::Named | Calls::Unknown => {}
            Calls::Bare { .. } => self.put(if is_list { "}]" } else { "}" }),
        }
    }

    fn reasoning(&mut self, text: &str) -> Option<()> {
        match (self.at, self.syntax.reasoning) {
            (_, None) => self.written.left_out += text.len(),
            (At::Beginning, Some(Markers { open, .. })) => {
                self.mark(open);
                self.put("\n");
                self.put(text);
                self.at = At::Reasoning;
            }
            (At::Reasoning, Some(_)) => self.put(text),
            (At::Between | At::Text | At::Arguments { .. }, Some(_)) => return None,
        }
        Some(())
    }

    /// A stream of calls, which may begin and end within one.
    fn calls(&mut self, stream: &str) -> Option<()> {
        let mut parts = stream.split(CALL_BEGIN);
        let first = parts.next().unwrap_or_default();
        if !first.is_empty() {
            let At::Arguments { .. } = self.at else {
                return None;
            };
            self.arguments(first);
        }
        for call in parts {
            let (head, arguments) = match call.split_once('\n') {
                Some((head, arguments)) => (head, Some(arguments)),
                None => (call, None),
            };
            let (name, is_whole) = name_in(head);
            self.open_call(&name, is_whole && arguments.is_some());
            (self.scanner, self.is_whole) = (JsonScanner::default(), false);
            self.arguments(arguments.unwrap_or_default());
        }
        Some(())
    }

    fn arguments(&mut self, text: &str) {
        for c in text.chars() {
            self.is_whole |= self.scanner.push(c) == Scan::Done;
        }
        self.put(text);
    }

    fn open_call(&mut self, name: &str, is_whole: bool) {
        let mut is_list = matches!(self.syntax.calls, Calls::Tagged { is_list: true, .. });
        if let At::Arguments { is_list: true } = self.at {
            is_list = true;
            self.put("}, ");
        } else {
            let was_text = self.at == At::Text;
            self.leave();
            if was_text {
                self.put("\n");
            }
            match self.syntax.calls {
                Calls::Tagged { open, .. } => self.mark(open),
                Calls::Named => self.mark(MISTRAL_OPEN),
                Calls::Bare { .. } | Calls::Unknown => {}
            }
            let is_named = matches!(self.syntax.calls, Calls::Named);
            let is_bare = matches!(self.syntax.calls, Calls::Bare { .. });
            if is_list {
                self.put("[");
            } else if !is_named && !is_bare {
                self.put("\n");
            }
        }
        let arguments = match self.syntax.calls {
            Calls::Bare { arguments, .. } => arguments,
            Calls::Named | Calls::Tagged { .. } | Calls::Unknown => "arguments",
        };
        match (self.syntax.calls, is_whole) {
            (Calls::Named, _) => {
                self.put(name);
                if is_whole {
                    self.mark(MISTRAL_ARGUMENTS);
                }
            }
            (_, true) => self.put(&format!("{{\"name\": \"{name}\", \"{arguments}\": ")),
            (_, false) => self.put(&format!("{{\"name\": \"{name}")),
        }
        self.at = At::Arguments { is_list };
    }
}

/// The name in a head that may be cut; whether it is whole. Names hold letters, digits, `_`, `-` and `.` only.
fn name_in(head: &str) -> (String, bool) {
    let Some((_, rest)) = head.split_once("\"name\":\"") else {
        return (String::new(), false);
    };
    match rest.split_once('"') {
        Some((name, _)) => (name.to_owned(), true),
        None => (rest.to_owned(), false),
    }
}
