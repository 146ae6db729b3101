//! Values as Python shows them: `str()`, `repr()`, `json.dumps()`.
//!
//! Templates are written for Jinja2, where whatever is not text is shown as Python shows it. What a conversation
//! brings along is therefore held in [`Dict`] and [`List`], which keep the order of their keys and show themselves so.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "minijinja's ValueKind is not exhaustive"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::bounds::{Bounds, too_long};
use super::guard::is_mark;

/// Values within values, at most; Python has its recursion limit there.
const DEPTH_MAX: usize = 200;

/// A Python `dict` with text as keys.
#[derive(Debug, Default)]
pub(super) struct Dict {
    entries: Vec<(Value, Value)>,
    places: BTreeMap<String, usize>,
}

impl Dict {
    pub(super) fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let key = key.into();
        let entry = (Value::from(key.as_str()), value.into());
        let place = self.places.get(&key);
        if let Some(old) = place.and_then(|place| self.entries.get_mut(*place)) {
            *old = entry;
        } else {
            self.places.insert(key, self.entries.len());
            self.entries.push(entry);
        }
    }

    pub(super) fn into_value(self) -> Value {
        Value::from_object(self)
    }
}

impl Object for Dict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let (_, value) = self.entries.get(*self.places.get(key)?)?;
        Some(value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.entries.iter().map(|(key, _)| key.clone()).collect())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = Value::from_dyn_object(Arc::clone(self));
        f.write_str(&repr(&value, Bounds::JOB.prompt_bytes))
    }
}

/// A Python `list`.
#[derive(Debug)]
pub(super) struct List(Vec<Value>);

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = Value::from_dyn_object(Arc::clone(self));
        f.write_str(&repr(&value, Bounds::JOB.prompt_bytes))
    }
}

/// JSON as a template's value; `text` is asked about every text in it, keys included.
pub(super) fn value(json: &serde_json::Value, text: &impl Fn(&str) -> String) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(bool) => Value::from(*bool),
        serde_json::Value::Number(number) => number
            .as_u64()
            .map(Value::from)
            .or_else(|| number.as_i64().map(Value::from))
            .or_else(|| number.as_f64().map(Value::from))
            .unwrap_or_default(),
        serde_json::Value::String(string) => Value::from(text(string)),
        serde_json::Value::Array(items) => {
            Value::from_object(List(items.iter().map(|item| value(item, text)).collect()))
        }
        serde_json::Value::Object(entries) => {
            let mut dict = Dict::default();
            for (key, item) in entries {
                dict.insert(text(key), value(item, text));
            }
            dict.into_value()
        }
    }
}

/// `str(value)`, cut off somewhere beyond so many bytes.
pub(super) fn str(value: &Value, bytes_max: usize) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        _ => repr(value, bytes_max),
    }
}

/// `repr(value)`, cut off somewhere beyond so many bytes.
fn repr(value: &Value, bytes_max: usize) -> String {
    let mut text = String::new();
    write_repr(&mut text, value, bytes_max, 0);
    text
}

fn write_repr(text: &mut String, value: &Value, bytes_max: usize, depth: usize) {
    if depth > DEPTH_MAX {
        text.push_str("...");
        return;
    }
    // Lists of the same lists can be shown exponentially long.
    if text.len() > bytes_max {
        return;
    }
    match value.kind() {
        ValueKind::Number => text.push_str(&number(value)),
        ValueKind::String => write_string_repr(text, value.as_str().unwrap_or_default()),
        ValueKind::Seq => {
            text.push('[');
            for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                write_repr(text, &item, bytes_max, depth + 1);
            }
            text.push(']');
        }
        ValueKind::Map if is_plain_map(value) => {
            text.push('{');
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                write_repr(text, &key, bytes_max, depth + 1);
                text.push_str(": ");
                let item = value.get_item(&key).unwrap_or_default();
                write_repr(text, &item, bytes_max, depth + 1);
            }
            text.push('}');
        }
        // The rest is shown as Python does by minijinja itself.
        _ => text.push_str(&value.to_string()),
    }
}

/// Namespaces, loops and the like show themselves.
fn is_plain_map(value: &Value) -> bool {
    value.try_iter().is_ok()
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

/// The shortest digits that mean this number, laid out as Python lays them out.
fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

fn write_string_repr(text: &mut String, string: &str) {
    let quote = if string.contains('\'') && !string.contains('"') {
        '"'
    } else {
        '\''
    };
    text.push(quote);
    for char in string.chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            char if char == quote => text.extend(['\\', char]),
            char if is_mark(char) || is_printable(char) => text.push(char),
            char => {
                let code = u32::from(char);
                let (letter, digits) = match code {
                    0..=0xff => ('x', 2),
                    0x100..=0xffff => ('u', 4),
                    _ => ('U', 8),
                };
                push_escape(text, letter, code, digits);
            }
        }
    }
    text.push(quote);
}

/// A backslash, a letter, and a number with so many digits.
fn push_escape(text: &mut String, letter: char, code: u32, digits: u32) {
    text.extend(['\\', letter]);
    let nibbles = (0..digits).rev().map(|place| (code >> (4 * place)) & 0xf);
    text.extend(nibbles.filter_map(|nibble| char::from_digit(nibble, 16)));
}

/// Whether Python shows it as it is. Unassigned characters are taken for printable.
fn is_printable(char: char) -> bool {
    !(char.is_control()
        || (char.is_whitespace() && char != ' ')
        || matches!(u32::from(char),
            0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e
            | 0x2060..=0x206f | 0xe000..=0xf8ff | 0xfeff | 0xfff0..=0xfffb | 0xe0000..=0x0010_ffff))
}

/// The options of `json.dumps`.
#[derive(Debug)]
pub(super) struct Json {
    /// What is longer is refused, sooner or later.
    pub(super) bytes_max: usize,
    pub(super) ensure_ascii: bool,
    pub(super) indent: Option<String>,
    /// Between items and between key and value; Python's habit where there are none.
    pub(super) separators: Option<(String, String)>,
    pub(super) sort_keys: bool,
}

impl Default for Json {
    fn default() -> Self {
        Self {
            bytes_max: Bounds::JOB.prompt_bytes,
            ensure_ascii: false,
            indent: None,
            separators: None,
            sort_keys: false,
        }
    }
}

impl Json {
    /// `json.dumps(value)`.
    pub(super) fn dumps(&self, value: &Value) -> Result<String, Error> {
        let mut text = String::new();
        self.write(&mut text, value, 0)?;
        Ok(text)
    }

    fn write(&self, text: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::new(ErrorKind::BadSerialization, what.to_owned()));
        if depth > DEPTH_MAX {
            return refuse("too deep for JSON");
        }
        if text.len() > self.bytes_max {
            return Err(too_long());
        }
        match value.kind() {
            ValueKind::None => text.push_str("null"),
            ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => text.push_str(&json_number(value)),
            ValueKind::String => self.write_string(text, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_items(text, ['[', ']'], depth, &items, |text, item| {
                    self.write(text, item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                let (_, colon) = self.separators();
                self.write_items(text, ['{', '}'], depth, &keys, |text, key| {
                    self.write_string(text, &key_text(key, self.bytes_max));
                    text.push_str(colon);
                    self.write(text, &value.get_item(key)?, depth + 1)
                })?;
            }
            ValueKind::Undefined => return refuse("undefined is not JSON serializable"),
            _ => return refuse("not JSON serializable"),
        }
        Ok(())
    }

    fn write_items(
        &self,
        text: &mut String,
        [open, close]: [char; 2],
        depth: usize,
        items: &[Value],
        mut write: impl FnMut(&mut String, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        text.push(open);
        let (comma, _) = self.separators();
        for (index, item) in items.iter().enumerate() {
            text.push_str(if index == 0 { "" } else { comma });
            self.write_line(text, depth + 1);
            write(text, item)?;
        }
        if !items.is_empty() {
            self.write_line(text, depth);
        }
        text.push(close);
        Ok(())
    }

    fn write_line(&self, text: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            text.push('\n');
            text.push_str(&indent.repeat(depth));
        }
    }

    fn separators(&self) -> (&str, &str) {
        match &self.separators {
            Some((comma, colon)) => (comma, colon),
            None if self.indent.is_some() => (",", ": "),
            None => (", ", ": "),
        }
    }

    fn write_string(&self, text: &mut String, string: &str) {
        text.push('"');
        for char in string.chars() {
            match char {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                char if is_mark(char) => text.push(char),
                char if char < ' ' || (self.ensure_ascii && !(' '..='~').contains(&char)) => {
                    for unit in char.encode_utf16(&mut [0; 2]) {
                        push_escape(text, 'u', u32::from(*unit), 4);
                    }
                }
                char => text.push(char),
            }
        }
        text.push('"');
    }
}

fn json_number(value: &Value) -> String {
    match number(value).as_str() {
        "nan" => "NaN".to_owned(),
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        number => number.to_owned(),
    }
}

fn key_text(key: &Value, bytes_max: usize) -> String {
    match key.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => key.is_true().to_string(),
        ValueKind::Number => json_number(key),
        _ => str(key, bytes_max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Value {
        value(&serde_json::from_str(json).unwrap(), &str::to_owned)
    }

    // What CPython 3.11 prints.
    #[test]
    fn values_show_themselves_as_in_python() {
        for (json, shown) in [
            (
                r#"{"b": [1, true, null], "a": "x"}"#,
                "{'b': [1, True, None], 'a': 'x'}",
            ),
            (
                r#"["it's", "\"", "'\"", "a\n\u0001\u00a0"]"#,
                r#"["it's", '"', '\'"', 'a\n\x01\xa0']"#,
            ),
            (
                "[1.0, 1e15, 1e16, 1e-4, 1e-5, 2.5e300]",
                "[1.0, 1000000000000000.0, 1e+16, 0.0001, 1e-05, 2.5e+300]",
            ),
            ("{}", "{}"),
        ] {
            assert_eq!(str(&of(json), 1000), shown);
            assert_eq!(of(json).to_string(), shown);
        }
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        let value = of(r#"{"b": [1, {}], "a": "ü\"<\u007f😀\u0007", "c": []}"#);
        let plain = Json::default();
        assert_eq!(
            plain.dumps(&value).unwrap(),
            "{\"b\": [1, {}], \"a\": \"ü\\\"<\u{7f}😀\\u0007\", \"c\": []}"
        );
        let sorted = Json {
            ensure_ascii: true,
            indent: Some("  ".to_owned()),
            sort_keys: true,
            ..Json::default()
        };
        assert_eq!(
            sorted.dumps(&value).unwrap(),
            "{\n  \"a\": \"\\u00fc\\\"<\\u007f\\ud83d\\ude00\\u0007\",\n  \"b\": [\n    1,\n    {}\n  ],\n  \"c\": []\n}"
        );
    }
}
