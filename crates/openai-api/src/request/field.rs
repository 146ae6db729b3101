//! One JSON value and where it stands in the request, so that each fault names its field.
//!
//! Values stay raw text until somebody says what they should be: nothing is built for what will be refused,
//! and a fault is told in `OpenAI`'s words. Lists and objects are bounded while they are read.

use core::fmt;
use std::collections::BTreeMap;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use crate::ApiError;
use crate::error::shortened;

/// A value and its path, such as `messages[2].content`.
pub(super) struct Field<'a> {
    path: String,
    raw: &'a RawValue,
}

/// An object whose fields are taken out one by one; what is left over is refused.
pub(super) struct Object<'a> {
    path: String,
    fields: BTreeMap<String, &'a RawValue>,
}

/// Reads a whole body, which must be an object.
pub(super) fn body(text: &str, fields_max: usize) -> Result<Object<'_>, ApiError> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
        let what = if error.is_eof() {
            "it ends too early"
        } else {
            "it is not valid JSON"
        };
        let (line, column) = (error.line(), error.column());
        ApiError::malformed(&format!("{what} at line {line} column {column}"))
    })?;
    let field = Field {
        path: String::new(),
        raw,
    };
    if field.raw.get().starts_with('{') {
        field.object(fields_max)
    } else {
        Err(ApiError::malformed("it is not an object"))
    }
}

impl<'a> Field<'a> {
    pub(super) fn is_string(&self) -> bool {
        self.raw.get().starts_with('"')
    }

    pub(super) fn is_list(&self) -> bool {
        self.raw.get().starts_with('[')
    }

    fn is_null(&self) -> bool {
        self.raw.get() == "null"
    }

    /// A fault in the value of this field; `what` completes "Invalid 'field': …".
    pub(super) fn invalid(&self, code: &'static str, what: &str) -> ApiError {
        let path = &self.path;
        ApiError::invalid(code, path, format!("Invalid '{path}': {what}."))
    }

    /// A value that `OpenAI` knows and this network does not do. Words are quoted, content never is.
    pub(super) fn unsupported_value(&self, instead: &str) -> ApiError {
        let path = &self.path;
        let word = self.parse::<String>("a string").ok();
        let value = word.map_or_else(
            || "the value given".to_owned(),
            |word| format!("'{}'", shortened(&word)),
        );
        let message = format!("Unsupported value: '{path}' does not support {value}. {instead}");
        ApiError::invalid("unsupported_value", path, message)
    }

    pub(super) fn wrong_type(&self, expected: &str) -> ApiError {
        let path = &self.path;
        let got = match self.raw.get().as_bytes().first() {
            Some(b'"') => "a string",
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            Some(_) | None => "a number",
        };
        let message =
            format!("Invalid type for '{path}': expected {expected}, but got {got} instead.");
        ApiError::invalid("invalid_type", path, message)
    }

    fn parse<T: Deserialize<'a>>(&self, expected: &str) -> Result<T, ApiError> {
        serde_json::from_str(self.raw.get()).map_err(|_| self.wrong_type(expected))
    }

    pub(super) fn boolean(&self) -> Result<bool, ApiError> {
        self.parse("a boolean")
    }

    /// A string that must not be empty.
    pub(super) fn string(&self, bytes_max: usize) -> Result<String, ApiError> {
        let text = self.text(bytes_max)?;
        if text.is_empty() {
            return Err(self.invalid(
                "empty_string",
                "empty string. Expected a string with minimum length 1",
            ));
        }
        Ok(text)
    }

    /// A string that may be empty.
    pub(super) fn text(&self, bytes_max: usize) -> Result<String, ApiError> {
        let text: String = serde_json::from_str(self.raw.get()).map_err(|_| {
            if self.is_string() {
                // The one thing that can be wrong with a string that the JSON scanner let pass.
                self.invalid("invalid_value", "an escape stands for no character")
            } else {
                self.wrong_type("a string")
            }
        })?;
        if text.len() > bytes_max {
            let what = format!(
                "string too long. Expected a string with maximum length {bytes_max} bytes, but got {} instead",
                text.len()
            );
            return Err(self.invalid("string_above_max_length", &what));
        }
        Ok(text)
    }

    pub(super) fn decimal(&self, least: f32, most: f32) -> Result<f32, ApiError> {
        // A number too large for f64 is over every maximum; serde_json refuses it as a wrong type, which will do.
        let number: f64 = self.parse("a decimal")?;
        if number < f64::from(least) {
            let what = format!(
                "decimal below minimum value. Expected a value >= {least}, but got {number} instead"
            );
            return Err(self.invalid("decimal_below_min_value", &what));
        }
        if number > f64::from(most) {
            let what = format!(
                "decimal above maximum value. Expected a value <= {most}, but got {number} instead"
            );
            return Err(self.invalid("decimal_above_max_value", &what));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is in range; the nearest f32 is meant"
        )]
        Ok(number as f32)
    }

    pub(super) fn integer(&self, least: i128, most: i128) -> Result<i128, ApiError> {
        let number: i128 = self.parse("an integer")?;
        if number < least {
            let what = format!(
                "integer below minimum value. Expected a value >= {least}, but got {number} instead"
            );
            return Err(self.invalid("integer_below_min_value", &what));
        }
        if number > most {
            let what = format!(
                "integer above maximum value. Expected a value <= {most}, but got {number} instead"
            );
            return Err(self.invalid("integer_above_max_value", &what));
        }
        Ok(number)
    }

    pub(super) fn list(&self, items_max: usize) -> Result<Vec<Self>, ApiError> {
        if !self.is_list() {
            return Err(self.wrong_type("an array"));
        }
        let mut deserializer = serde_json::Deserializer::from_str(self.raw.get());
        let items = BoundedList { items_max }
            .deserialize(&mut deserializer)
            .map_err(|_| self.wrong_type("an array"))?;
        if items.len() > items_max {
            let what = format!("array too long. Expected an array with maximum length {items_max}");
            return Err(self.invalid("array_above_max_length", &what));
        }
        Ok(items
            .into_iter()
            .enumerate()
            .map(|(index, raw)| Self {
                path: format!("{}[{index}]", self.path),
                raw,
            })
            .collect())
    }

    pub(super) fn object(&self, fields_max: usize) -> Result<Object<'a>, ApiError> {
        if !self.raw.get().starts_with('{') {
            return Err(self.wrong_type("an object"));
        }
        let mut deserializer = serde_json::Deserializer::from_str(self.raw.get());
        let entries = BoundedObject { fields_max }
            .deserialize(&mut deserializer)
            .map_err(|_| self.wrong_type("an object"))?;
        if entries.len() > fields_max {
            let what = format!("too many properties. Expected at most {fields_max}");
            return Err(self.invalid("object_above_max_properties", &what));
        }
        let mut fields = BTreeMap::new();
        for (name, raw) in entries {
            if fields.contains_key(&name) {
                let path = joined(&self.path, &name);
                let message = format!("Duplicate parameter: '{path}' is given twice.");
                return Err(ApiError::invalid("duplicate_parameter", path, message));
            }
            fields.insert(name, raw);
        }
        Ok(Object {
            path: self.path.clone(),
            fields,
        })
    }

    /// Any JSON object, kept as it is.
    pub(super) fn json_object(&self, bytes_max: usize) -> Result<serde_json::Value, ApiError> {
        if !self.raw.get().starts_with('{') {
            return Err(self.wrong_type("an object"));
        }
        if self.raw.get().len() > bytes_max {
            let what = format!("object too large. Expected at most {bytes_max} bytes of JSON");
            return Err(self.invalid("object_above_max_size", &what));
        }
        serde_json::from_str(self.raw.get())
            .map_err(|_| self.invalid("invalid_value", "it is nested too deeply"))
    }
}

impl<'a> Object<'a> {
    /// Takes a field out. `null` is the same as absent.
    pub(super) fn take(&mut self, name: &str) -> Option<Field<'a>> {
        let raw = self.fields.remove(name)?;
        let field = Field {
            path: joined(&self.path, name),
            raw,
        };
        (!field.is_null()).then_some(field)
    }

    pub(super) fn required(&mut self, name: &str) -> Result<Field<'a>, ApiError> {
        self.take(name).ok_or_else(|| {
            let path = joined(&self.path, name);
            let message = format!("Missing required parameter: '{path}'.");
            ApiError::invalid("missing_required_parameter", path, message)
        })
    }

    /// All fields, `null` ones too.
    pub(super) fn into_fields(self) -> impl Iterator<Item = (String, Field<'a>)> {
        let path = self.path;
        self.fields.into_iter().map(move |(name, raw)| {
            let path = joined(&path, &name);
            (name, Field { path, raw })
        })
    }

    /// Refuses what nobody took. A field in `unsupported` may be `null`.
    pub(super) fn refuse_rest(mut self, unsupported: &[&str]) -> Result<(), ApiError> {
        for name in unsupported {
            if let Some(field) = self.take(name) {
                let path = field.path;
                let message = format!("Unsupported parameter: '{path}' is not supported here.");
                return Err(ApiError::invalid("unsupported_parameter", path, message));
            }
        }
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => {
                let path = joined(&self.path, name);
                let message = format!("Unknown parameter: '{path}'.");
                Err(ApiError::invalid("unknown_parameter", path, message))
            }
        }
    }
}

fn joined(path: &str, name: &str) -> String {
    let name = shortened(name);
    if path.is_empty() {
        name
    } else {
        format!("{path}.{name}")
    }
}

/// Reads a list but keeps no more than one item over the limit, which is enough to know.
struct BoundedList {
    items_max: usize,
}

impl<'de> DeserializeSeed<'de> for BoundedList {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for BoundedList {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() <= self.items_max {
            let Some(item) = access.next_element()? else {
                return Ok(items);
            };
            items.push(item);
        }
        while access.next_element::<IgnoredAny>()?.is_some() {}
        Ok(items)
    }
}

/// The same for objects.
struct BoundedObject {
    fields_max: usize,
}

impl<'de> DeserializeSeed<'de> for BoundedObject {
    type Value = Vec<(String, &'de RawValue)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for BoundedObject {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while entries.len() <= self.fields_max {
            let Some(entry) = access.next_entry()? else {
                return Ok(entries);
            };
            entries.push(entry);
        }
        while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(entries)
    }
}
