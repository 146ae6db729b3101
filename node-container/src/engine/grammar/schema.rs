//! What a schema may hold: only what llama.cpp enforces, and not more than it compiles in a moment.
//!
//! llama.cpp follows references wherever they lead and expands every choice at once, so a few kilobytes can keep it
//! busy for ever. This walks a schema the way llama.cpp does, references unfolded, and stops at the first limit.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::pattern;

/// Repetitions that llama.cpp compiles in any surroundings; its own limit is near 2,000.
const REPETITIONS_MAX: u64 = 1000;
/// Schemas and values of `enum`, references unfolded.
const NODES_MAX: u64 = 2000;
/// Ways in which one value can begin.
const WIDTH_MAX: u64 = 1000;
/// Properties that may be left out.
const OPTIONAL_MAX: usize = 200;
/// Patterns, references unfolded.
const PATTERNS_MAX: usize = 16;
/// Bytes of a property's or definition's name.
const NAME_BYTES_MAX: usize = 256;
/// Bounds of integers: what every reader of JSON can hold.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

const REFERENCE: &str =
    "$ref must be #/$defs/<name> or #/definitions/<name>, and that must be there";

/// Refuses what llama.cpp would ignore, complain about or be busy with for long. The sentence never quotes the schema.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    let mut walk = Walk {
        root: schema,
        open: Vec::new(),
        nodes: 0,
        optional: 0,
        patterns: 0,
        widths: BTreeMap::new(),
        rules: BTreeMap::new(),
    };
    walk.value(schema)
}

struct Walk<'s> {
    root: &'s Value,
    /// References that the walk is inside of.
    open: Vec<&'s str>,
    nodes: u64,
    optional: usize,
    patterns: usize,
    /// Of targets of references.
    widths: BTreeMap<&'s str, u64>,
    /// llama.cpp's names for targets, which forget punctuation.
    rules: BTreeMap<String, &'s str>,
}

impl<'s> Walk<'s> {
    /// A schema in a place of its own: the root, a property or an item.
    fn value(&mut self, schema: &'s Value) -> Result<(), String> {
        self.schema(schema, self.open.len())?;
        // The walk saw no endless reference, so this ends.
        if self.width(schema)? > WIDTH_MAX {
            return Err(format!("a value has over {WIDTH_MAX} alternatives"));
        }
        Ok(())
    }

    /// `since`: references opened from here on lead on without a property or an item between.
    fn schema(&mut self, schema: &'s Value, since: usize) -> Result<(), String> {
        let fields = schema
            .as_object()
            .ok_or("a schema must be an object, not true or false")?;
        self.count(1)?;
        if let Some(reference) = fields.get("$ref") {
            return self.reference(reference, since);
        }
        self.keywords(fields)?;
        for _ in 0..kinds(fields)? {
            for keyword in ["anyOf", "oneOf", "allOf"] {
                for part in list(fields, keyword) {
                    self.schema(part, since)?;
                }
            }
            self.parts(fields)?;
        }
        Ok(())
    }

    fn reference(&mut self, reference: &'s Value, since: usize) -> Result<(), String> {
        let reference = reference.as_str().ok_or(REFERENCE)?;
        let target = target(self.root, reference)?;
        if let Some(place) = self.open.iter().position(|open| *open == reference) {
            return if place >= since {
                Err("a $ref leads back to itself without a property or an item between".to_owned())
            } else {
                Ok(())
            };
        }
        let rule: String = reference
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        if *self.rules.entry(rule).or_insert(reference) != reference {
            return Err("names of definitions must differ in letters or digits".to_owned());
        }
        self.open.push(reference);
        self.schema(target, since)?;
        self.open.pop();
        Ok(())
    }

    /// Everything that begins after a character of its own.
    fn parts(&mut self, fields: &'s Map<String, Value>) -> Result<(), String> {
        if let Some(properties) = fields.get("properties") {
            let properties = properties
                .as_object()
                .ok_or("properties must be an object")?;
            let required = list(fields, "required");
            let is_open = fields
                .get("additionalProperties")
                .is_some_and(|more| *more != Value::Bool(false));
            for (name, schema) in properties {
                // llama.cpp writes these names into character classes where others are allowed too.
                let is_special = name.contains([']', '[', '\\', '^', '\0']);
                if name.len() > NAME_BYTES_MAX || (is_open && is_special) {
                    return Err(
                        "a property's name is too long, or has brackets in it beside additionalProperties"
                            .to_owned(),
                    );
                }
                if !required.iter().any(|known| known == name) {
                    self.optional += 1;
                }
                if self.optional > OPTIONAL_MAX {
                    return Err(format!("over {OPTIONAL_MAX} properties are not required"));
                }
                self.value(schema)?;
            }
        }
        for keyword in ["items", "prefixItems", "additionalProperties"] {
            match fields.get(keyword) {
                Some(schema @ Value::Object(_)) => self.value(schema)?,
                Some(Value::Array(schemas)) => {
                    for schema in schemas {
                        self.value(schema)?;
                    }
                }
                Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => {
                }
            }
        }
        Ok(())
    }

    fn keywords(&mut self, fields: &Map<String, Value>) -> Result<(), String> {
        self.count(list(fields, "enum").len())?;
        for (least, most) in [("minLength", "maxLength"), ("minItems", "maxItems")] {
            let (low, high) = (repetitions(fields, least)?, repetitions(fields, most)?);
            if high.is_some_and(|high| high < low.unwrap_or(0)) {
                return Err(format!("{most} is under {least}"));
            }
        }
        let mut bounds = [
            ("minimum", "exclusiveMinimum"),
            ("maximum", "exclusiveMaximum"),
        ]
        .map(|(keyword, exclusive)| {
            let bound = fields.get(keyword).or_else(|| fields.get(exclusive));
            bound.and_then(Value::as_f64)
        });
        if bounds
            .iter()
            .flatten()
            .any(|bound| bound.abs() > INTEGER_MAX)
        {
            return Err("a bound of a number is beyond 2^53".to_owned());
        }
        if let [Some(low), Some(high)] = &mut bounds {
            *low += f64::from(u8::from(!fields.contains_key("minimum")));
            *high -= f64::from(u8::from(!fields.contains_key("maximum")));
            if *high < *low {
                return Err("maximum is under minimum".to_owned());
            }
        }
        if let Some(pattern) = fields.get("pattern") {
            self.patterns += 1;
            if self.patterns > PATTERNS_MAX {
                return Err(format!("there are over {PATTERNS_MAX} patterns"));
            }
            pattern::check(pattern.as_str().ok_or("pattern must be a string")?)?;
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(nodes as u64);
        if self.nodes > NODES_MAX {
            return Err(format!(
                "it is too large: over {NODES_MAX} schemas and enum values, counting each use of a $ref"
            ));
        }
        Ok(())
    }

    /// In how many ways a value of this schema can begin, for llama.cpp follows all of them at once.
    fn width(&mut self, schema: &'s Value) -> Result<u64, String> {
        let Some(fields) = schema.as_object() else {
            return Ok(1);
        };
        if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
            if let Some(known) = self.widths.get(reference) {
                return Ok(*known);
            }
            let width = self.width(target(self.root, reference)?)?;
            self.widths.insert(reference, width);
            return Ok(width);
        }
        let mut width = list(fields, "enum").len().max(1) as u64;
        for keyword in ["anyOf", "oneOf", "allOf"] {
            for part in list(fields, keyword) {
                width = width.saturating_add(self.width(part)?);
            }
        }
        Ok(width.saturating_mul(kinds(fields)?))
    }
}

fn target<'s>(root: &'s Value, reference: &str) -> Result<&'s Value, String> {
    ["$defs", "definitions"]
        .into_iter()
        .find_map(|place| {
            let name = reference
                .strip_prefix("#/")?
                .strip_prefix(place)?
                .strip_prefix('/')?;
            let is_plain = !name.is_empty()
                && name.len() <= NAME_BYTES_MAX
                && !name.contains(['/', '~', '%', '#', '\0']);
            root.get(place)?.get(name).filter(|_| is_plain)
        })
        .ok_or_else(|| REFERENCE.to_owned())
}

fn list<'s>(fields: &'s Map<String, Value>, keyword: &str) -> &'s [Value] {
    fields
        .get(keyword)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// llama.cpp takes a schema once for each of its types.
fn kinds(fields: &Map<String, Value>) -> Result<u64, String> {
    match fields.get("type") {
        Some(Value::Array(types)) if types.iter().all(Value::is_string) => {
            Ok(types.len().max(1) as u64)
        }
        Some(Value::String(_)) | None => Ok(1),
        Some(
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_),
        ) => Err("type must be a name or a list of names".to_owned()),
    }
}

fn repetitions(fields: &Map<String, Value>, keyword: &str) -> Result<Option<u64>, String> {
    let Some(count) = fields.get(keyword) else {
        return Ok(None);
    };
    count
        .as_u64()
        .filter(|count| *count <= REPETITIONS_MAX)
        .map(Some)
        .ok_or_else(|| format!("{keyword} is no number from 0 to {REPETITIONS_MAX}"))
}
