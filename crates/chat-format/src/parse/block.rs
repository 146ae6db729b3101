//! A block of calls, character by character: what follows a marker, or begins with a brace.
//!
//! A call is told as soon as its name is known; until then its text is held, for it may turn out to be no call.

use super::json::{JsonScanner, Scan, is_blank};
use super::sink::Sink;
use crate::family::{Calls, MISTRAL_ARGUMENTS, MISTRAL_ID};

/// A key, a name or an id in a call: longer ones belong to something else.
const WORD_BYTES_MAX: usize = 512;

/// What a character did to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It goes on.
    More,
    /// This was its last character.
    End,
    /// What came since the last call was no part of it.
    EndBefore,
    /// It is no call, or no longer one.
    Broken,
}

/// What stands in a place for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Name,
    Arguments,
    /// Some models wrap a call: `{"type": "function", "function": {"name": …}}`.
    Wrapped,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before a list, a call or a name.
    Start,
    /// Before a call of a list.
    Item,
    FirstKey,
    NextKey,
    InKey,
    Colon(Value),
    Before(Value),
    InName,
    InArguments,
    /// Arguments as JSON in a string.
    InString,
    InOther,
    AfterValue,
    /// After a call of a list.
    AfterItem,
    /// Before the closing marker, of which so many bytes have come.
    Closing(usize),
    /// In `name[ARGS]`.
    Head,
    AfterHead,
}

/// A block of calls.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own; most combinations occur"
)]
pub(super) struct Block {
    calls: Calls,
    /// Whether it began with a brace, and not with a marker.
    is_bare: bool,
    place: Place,
    is_list: bool,
    /// Wrappers that are open.
    wrappers: u8,
    /// A key or a string value as it is written, quotes included; or a head.
    word: String,
    is_escaped: bool,
    scanner: JsonScanner,
    /// Whether the call is a head with arguments, and not an object.
    is_head: bool,
    /// A name without a marker before it: told once arguments follow.
    name: Option<String>,
    /// Of the current call: whether it is told.
    has_name: bool,
    has_arguments: bool,
    /// Whether a call was made before.
    has_call: bool,
    /// Arguments that came before their name.
    early: String,
}

impl Block {
    /// A block after its marker, or before its brace.
    pub(super) fn new(calls: Calls, is_bare: bool) -> Self {
        Self {
            calls,
            is_bare,
            place: Place::Start,
            is_list: false,
            wrappers: 0,
            word: String::new(),
            is_escaped: false,
            scanner: JsonScanner::default(),
            is_head: false,
            name: None,
            has_name: false,
            has_arguments: false,
            has_call: false,
            early: String::new(),
        }
    }

    /// Whether what came so far is told or means nothing, so that nothing of it could be text after all.
    pub(super) const fn is_decided(&self) -> bool {
        self.has_name || matches!(self.place, Place::AfterItem | Place::Closing(0))
    }

    /// Whether it began with a brace, and not with a marker.
    pub(super) const fn is_bare(&self) -> bool {
        self.is_bare
    }

    /// Whether the arguments of a told call are being written.
    pub(super) const fn is_in_arguments(&self) -> bool {
        self.has_name && matches!(self.place, Place::InArguments)
    }

    /// Whether a call is over and no other has begun.
    pub(super) const fn is_after_call(&self) -> bool {
        self.has_call
            && matches!(
                self.place,
                Place::Item | Place::AfterItem | Place::Closing(_)
            )
    }

    /// Reads the arguments.
    pub(super) const fn scanner(&self) -> &JsonScanner {
        &self.scanner
    }

    /// Whether its calls are written as a list.
    pub(super) const fn is_list(&self) -> bool {
        self.is_list
    }

    /// Takes the next character.
    pub(super) fn push(&mut self, c: char, sink: &mut Sink<'_>) -> Step {
        match self.place {
            Place::InKey | Place::InName | Place::InString => self.string(c, sink),
            Place::InArguments => self.arguments(c, sink),
            Place::InOther => match self.scanner.push(c) {
                Scan::More => Step::More,
                Scan::Done => self.to(Place::AfterValue),
                Scan::Before => {
                    self.place = Place::AfterValue;
                    self.push(c, sink)
                }
                Scan::Broken => Step::Broken,
            },
            Place::Head => self.head(c, sink),
            Place::Closing(matched) => self.closing(c, matched),
            _ if is_blank(c) => Step::More,
            Place::Start => self.start(c, sink),
            Place::Item if c == '{' => self.to(Place::FirstKey),
            Place::FirstKey | Place::NextKey if c == '"' => self.word_begins(c, Place::InKey),
            Place::Colon(value) if c == ':' => self.to(Place::Before(value)),
            Place::Before(value) => self.value(value, c, sink),
            Place::FirstKey | Place::AfterValue if c == '}' => self.object_ends(sink),
            // A brace was forgotten.
            Place::AfterValue if c == ']' && self.is_list && self.has_arguments => {
                self.call_ends(sink);
                self.ends()
            }
            Place::AfterValue if c == ',' => self.to(Place::NextKey),
            Place::AfterItem if c == ',' => self.to(Place::Item),
            Place::AfterItem if c == ']' => self.ends(),
            Place::AfterHead if c == '{' => {
                self.place = Place::Before(Value::Arguments);
                self.push(c, sink)
            }
            Place::Item
            | Place::FirstKey
            | Place::NextKey
            | Place::Colon(_)
            | Place::AfterValue
            | Place::AfterItem
            | Place::AfterHead => Step::Broken,
        }
    }

    fn to(&mut self, place: Place) -> Step {
        self.place = place;
        Step::More
    }

    fn word_begins(&mut self, c: char, place: Place) -> Step {
        self.word.clear();
        self.word.push(c);
        self.is_escaped = false;
        self.to(place)
    }

    fn start(&mut self, c: char, sink: &mut Sink<'_>) -> Step {
        let is_mistral = matches!(self.calls, Calls::Named)
            || matches!(self.calls, Calls::Tagged { open, .. } if open == crate::family::MISTRAL_OPEN);
        match c {
            '{' => self.to(Place::FirstKey),
            '[' => {
                self.is_list = true;
                self.to(Place::Item)
            }
            _ if is_mistral => {
                self.word.clear();
                self.is_head = true;
                self.place = Place::Head;
                self.head(c, sink)
            }
            _ => Step::Broken,
        }
    }

    /// `name[ARGS]`, `name[CALL_ID]id[ARGS]`, or a name and a brace.
    fn head(&mut self, c: char, sink: &mut Sink<'_>) -> Step {
        if c != '{' {
            self.word.push(c);
        }
        let whole = self.word.strip_suffix(MISTRAL_ARGUMENTS);
        if self.word.len() > WORD_BYTES_MAX {
            return Step::Broken;
        }
        if whole.is_none() && c != '{' {
            return Step::More;
        }
        let head = whole.unwrap_or(&self.word);
        let name = head.split(MISTRAL_ID).next().unwrap_or(head).trim();
        self.has_name = sink.begin(name);
        if !self.has_name {
            return Step::Broken;
        }
        self.place = Place::AfterHead;
        if c == '{' {
            self.push(c, sink)
        } else {
            Step::More
        }
    }

    /// Keys, names, and arguments in strings.
    fn string(&mut self, c: char, sink: &mut Sink<'_>) -> Step {
        self.word.push(c);
        // Strings of arguments may be as long as a block.
        if self.word.len() > WORD_BYTES_MAX && self.place != Place::InString {
            return Step::Broken;
        }
        if self.is_escaped || c != '"' {
            self.is_escaped = !self.is_escaped && c == '\\';
            return Step::More;
        }
        let Ok(word) = serde_json::from_str::<String>(&self.word) else {
            return Step::Broken;
        };
        match self.place {
            Place::InKey => self.key(&word),
            Place::InName => self.name(&word, sink),
            Place::InString if JsonScanner::is_object(&word) => {
                self.early = word;
                self.has_arguments = true;
                self.place = Place::AfterValue;
                self.tell_early(sink);
                Step::More
            }
            Place::InString
            | Place::Start
            | Place::Item
            | Place::FirstKey
            | Place::NextKey
            | Place::Colon(_)
            | Place::Before(_)
            | Place::InArguments
            | Place::InOther
            | Place::AfterValue
            | Place::AfterItem
            | Place::Closing(_)
            | Place::Head
            | Place::AfterHead => Step::Broken,
        }
    }

    fn key(&mut self, key: &str) -> Step {
        let value = match key {
            "name" if !self.has_name && self.name.is_none() => Value::Name,
            "arguments" | "parameters" if !self.has_arguments => Value::Arguments,
            "function" if self.wrappers == 0 && !self.has_name => Value::Wrapped,
            // A brace alone may begin any JSON; only a call has these keys.
            "type" | "id" => Value::Other,
            _ if self.is_bare && !self.has_name => return Step::Broken,
            _ => Value::Other,
        };
        self.to(Place::Colon(value))
    }

    fn value(&mut self, value: Value, c: char, sink: &mut Sink<'_>) -> Step {
        if value == Value::Arguments
            && let Some(name) = self.name.take()
        {
            self.has_name = sink.begin(&name);
        }
        match (value, c) {
            (Value::Name, '"') => self.word_begins(c, Place::InName),
            (Value::Arguments, '"') => self.word_begins(c, Place::InString),
            (Value::Arguments, '{') => {
                self.scanner = JsonScanner::default();
                self.place = Place::InArguments;
                self.arguments(c, sink)
            }
            (Value::Wrapped, '{') => {
                self.wrappers += 1;
                self.to(Place::FirstKey)
            }
            (Value::Other, _) => {
                self.scanner = JsonScanner::default();
                self.place = Place::InOther;
                self.push(c, sink)
            }
            (Value::Name | Value::Arguments | Value::Wrapped, _) => Step::Broken,
        }
    }

    fn name(&mut self, name: &str, sink: &mut Sink<'_>) -> Step {
        if self.is_bare && !self.has_arguments && sink.offers(name) {
            // Any JSON may have a name; without a marker only one with arguments is a call.
            self.name = Some(name.to_owned());
            return self.to(Place::AfterValue);
        }
        self.has_name = sink.begin(name);
        if !self.has_name {
            return Step::Broken;
        }
        self.place = Place::AfterValue;
        self.tell_early(sink);
        Step::More
    }

    fn tell_early(&mut self, sink: &mut Sink<'_>) {
        if self.has_name && self.has_arguments {
            sink.arguments(&self.early);
            self.early.clear();
            sink.call_ends();
        }
    }

    fn arguments(&mut self, c: char, sink: &mut Sink<'_>) -> Step {
        let scan = self.scanner.push(c);
        if scan == Scan::Broken {
            return Step::Broken;
        }
        if self.has_name {
            sink.argument(c);
        } else {
            self.early.push(c);
        }
        if scan == Scan::Done {
            self.has_arguments = true;
            self.place = Place::AfterValue;
            if self.has_name {
                sink.call_ends();
            }
            if self.is_head {
                return self.object_ends(sink);
            }
        }
        Step::More
    }

    fn object_ends(&mut self, sink: &mut Sink<'_>) -> Step {
        if self.wrappers > 0 {
            self.wrappers -= 1;
            return self.to(Place::AfterValue);
        }
        if !self.has_name {
            return Step::Broken;
        }
        self.call_ends(sink);
        if self.is_list {
            self.to(Place::AfterItem)
        } else {
            self.ends()
        }
    }

    fn call_ends(&mut self, sink: &mut Sink<'_>) {
        if !self.has_arguments {
            sink.arguments("{}");
            sink.call_ends();
        }
        (self.has_name, self.has_arguments, self.wrappers) = (false, false, 0);
        self.has_call = true;
    }

    /// After the last call.
    fn ends(&mut self) -> Step {
        self.place = Place::Closing(0);
        if self.close().is_empty() {
            Step::End
        } else {
            Step::More
        }
    }

    const fn close(&self) -> &'static str {
        match self.calls {
            Calls::Tagged { close, .. } => close,
            Calls::Named | Calls::Bare { .. } | Calls::Unknown => "",
        }
    }

    fn closing(&mut self, c: char, matched: usize) -> Step {
        let rest = self.close().get(matched..).unwrap_or_default();
        match rest.strip_prefix(c) {
            Some("") => Step::End,
            Some(_) => self.to(Place::Closing(matched + c.len_utf8())),
            None if matched == 0 && is_blank(c) => Step::More,
            // Another call before the marker.
            None if matched == 0 && c == '{' && !self.is_list => self.to(Place::FirstKey),
            None => Step::EndBefore,
        }
    }
}
