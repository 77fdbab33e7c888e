//! Schemas of a document as JSON Schema 2020-12 that stands by itself.
//!
//! Referenced schemas are put into `$defs`, the nearest first, until the room for one tool is used up; one that does not fit any
//! more takes anything. So a schema is bounded whatever the document says, circles cost nothing, and it never refuses what the
//! document allows. Inlining would be shorter for small documents, and without end for most large ones.

mod words;

use crate::{
    document::{Document, Unresolved, Version},
    text::cleaned,
};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet, VecDeque};
use words::{KeywordValue, kind};

/// Deepest nesting of one schema, references not counted.
const MAX_DEPTH: usize = 32;
/// Longest description of a part, characters.
const DESCRIPTION: usize = 240;
/// Most bytes of the values of an `enum`; longer ones are described instead.
const MAX_ENUM: usize = 4 << 10;
/// Most values of an `enum`, and most names in `required`.
const MAX_VALUES: usize = 512;
/// Longest name of a property, bytes.
const MAX_NAME: usize = 256;

/// The direction in which values go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A request: `readOnly` properties are left out.
    Request,
    /// A response: `writeOnly` properties are left out.
    Response,
}

/// Writes the schemas of one tool.
pub struct Writer<'d> {
    document: &'d Document,
    direction: Direction,
    /// Bytes that may still be written, about.
    left: usize,
    /// The name in `$defs` of each reference.
    names: HashMap<&'d str, String>,
    taken: HashSet<String>,
    waiting: VecDeque<&'d str>,
    defs: Map<String, Value>,
    missing: Option<Unresolved>,
}

impl<'d> Writer<'d> {
    /// A writer with room for about so many bytes.
    pub fn new(document: &'d Document, direction: Direction, room: usize) -> Self {
        Self {
            document,
            direction,
            left: room,
            names: HashMap::new(),
            taken: HashSet::new(),
            waiting: VecDeque::new(),
            defs: Map::new(),
            missing: None,
        }
    }

    /// Writes one schema. The schemas it refers to come with [`Writer::defs`].
    pub fn write(&mut self, schema: &'d Value) -> Value {
        self.any(schema, MAX_DEPTH)
    }

    /// The schemas for `$defs` that the others refer to; none where they refer to nothing.
    ///
    /// # Errors
    /// A reference leads nowhere.
    pub fn defs(mut self) -> Result<Option<Value>, Unresolved> {
        while let Some(reference) = self.waiting.pop_front() {
            let schema = match self.document.target(reference) {
                Ok(target) => self.any(target, MAX_DEPTH),
                Err(missing) => {
                    self.missing.get_or_insert(missing);
                    continue;
                }
            };
            if let Some(name) = self.names.get(reference) {
                self.defs.insert(name.clone(), schema);
            }
        }
        match self.missing {
            Some(missing) => Err(missing),
            None => Ok((!self.defs.is_empty()).then_some(Value::Object(self.defs))),
        }
    }

    /// Takes room. False when it is used up.
    fn take(&mut self, bytes: usize) -> bool {
        let fits = self.left >= bytes;
        self.left = self.left.saturating_sub(bytes);
        fits
    }

    fn any(&mut self, schema: &'d Value, depth: usize) -> Value {
        match schema {
            Value::Object(schema) if depth > 0 && self.take(16) => self.object(schema, depth - 1),
            Value::Bool(allowed) => Value::Bool(*allowed),
            _ => json!({}),
        }
    }

    fn object(&mut self, schema: &'d Map<String, Value>, depth: usize) -> Value {
        let mut written = Map::new();
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let name = self.named(reference);
            written.insert("$ref".to_owned(), format!("#/$defs/{name}").into());
            if self.document.version() == Version::V3_0 {
                return Value::Object(written);
            }
        }
        let mut is_whole = true;
        for (word, value) in schema {
            // Words that say nothing cost time as well.
            let kind = kind(word);
            if !self.take(kind.map_or(1, |_| word.len() + 4)) {
                is_whole = false;
                break;
            }
            let Some(kind) = kind else { continue };
            let value = match kind {
                KeywordValue::Schema => Some(self.any(value, depth)),
                KeywordValue::Schemas => self.list(value, depth),
                KeywordValue::Named => self.properties(value, depth, &mut is_whole),
                KeywordValue::Number => value.is_number().then(|| value.clone()),
                KeywordValue::Flag => value.is_boolean().then(|| value.clone()),
                KeywordValue::Text(most) => {
                    let text = value.as_str().filter(|text| text.len() <= most && self.take(text.len()));
                    text.map(|text| Value::String(text.to_owned()))
                }
                KeywordValue::Description => {
                    value.as_str().map(|text| cleaned(text, DESCRIPTION)).filter(|text| self.take(text.len())).map(Value::String)
                }
                KeywordValue::Type => types(value),
                KeywordValue::Required => self.required(value, schema),
                KeywordValue::Value(most) => self.value(value, most),
                // Further down, as they change other words.
                KeywordValue::Enum | KeywordValue::Bound => None,
            };
            if let Some(value) = value {
                // Cut alternatives may all match, where exactly one should.
                let word = if word == "oneOf" { "anyOf" } else { word };
                written.insert(word.to_owned(), value);
            }
        }
        self.values(schema, &mut written);
        bounds(schema, &mut written);
        if !is_whole {
            // Properties that were cut must not be refused.
            written.remove("additionalProperties");
        }
        if schema.get("nullable") == Some(&Value::Bool(true)) { nullable(written) } else { Value::Object(written) }
    }

    fn list(&mut self, value: &'d Value, depth: usize) -> Option<Value> {
        let list = value.as_array()?;
        let mut written = Vec::new();
        for schema in list {
            written.push(self.any(schema, depth));
            if self.left == 0 {
                // The rest takes anything, once for all of them.
                written.push(json!({}));
                break;
            }
        }
        (!written.is_empty()).then_some(Value::Array(written))
    }

    fn properties(&mut self, value: &'d Value, depth: usize, is_whole: &mut bool) -> Option<Value> {
        let mut written = Map::new();
        for (name, schema) in value.as_object()? {
            if !self.take(name.len().min(MAX_NAME) + 4) {
                *is_whole = false;
                break;
            }
            if self.is_for_the_other_side(schema) || name.len() > MAX_NAME {
                continue;
            }
            let schema = self.any(schema, depth);
            written.insert(name.clone(), schema);
        }
        Some(Value::Object(written))
    }

    fn is_for_the_other_side(&self, schema: &Value) -> bool {
        let word = match self.direction {
            Direction::Request => "readOnly",
            Direction::Response => "writeOnly",
        };
        schema.get(word) == Some(&Value::Bool(true))
    }

    fn required(&mut self, value: &'d Value, schema: &'d Map<String, Value>) -> Option<Value> {
        let properties = schema.get("properties");
        let stays = |name: &&str| {
            let property = properties.and_then(|properties| properties.get(*name));
            name.len() <= MAX_NAME && !property.is_some_and(|property| self.is_for_the_other_side(property))
        };
        let mut names: Vec<&str> = value.as_array()?.iter().take(MAX_VALUES).filter_map(Value::as_str).filter(stays).collect();
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(*name));
        names.retain(|name| self.take(name.len() + 3));
        (!names.is_empty()).then(|| json!(names))
    }

    /// A value of the document's, as it is, if it is short.
    fn value(&mut self, value: &Value, most: usize) -> Option<Value> {
        let length = length_up_to(value, most)?;
        self.take(length).then(|| value.clone())
    }

    /// `enum`, or in words where it is too long.
    fn values(&mut self, schema: &Map<String, Value>, written: &mut Map<String, Value>) {
        let Some(Value::Array(values)) = schema.get("enum") else { return };
        let mut values: Vec<&Value> = values.iter().take(MAX_VALUES + 1).collect();
        if schema.get("nullable") == Some(&Value::Bool(true)) && !values.contains(&&Value::Null) {
            values.push(&Value::Null);
        }
        let length = values.iter().try_fold(0, |sum, value| Some(sum + length_up_to(value, MAX_ENUM)? + 1)).unwrap_or(usize::MAX);
        if !values.is_empty() && values.len() <= MAX_VALUES && length <= MAX_ENUM && self.take(length) {
            let mut unique: Vec<&Value> = Vec::with_capacity(values.len());
            for value in values {
                if !unique.contains(&value) {
                    unique.push(value);
                }
            }
            written.insert("enum".to_owned(), json!(unique));
        } else if self.take(DESCRIPTION) {
            let some: Vec<&str> = values.iter().filter_map(|value| value.as_str()).take(8).collect();
            let told = written.get("description").and_then(Value::as_str).unwrap_or_default();
            let text = cleaned(&format!("{told} (one of many values: {}, …)", some.join(", ")), 2 * DESCRIPTION);
            written.insert("description".to_owned(), text.into());
        }
    }

    /// The name that a reference has in `$defs`.
    fn named(&mut self, reference: &'d str) -> String {
        if let Some(name) = self.names.get(reference) {
            return name.clone();
        }
        let last = reference.rsplit('/').next().unwrap_or_default();
        let legal: String = last.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')).take(64).collect();
        let plain = if legal.is_empty() { "schema".to_owned() } else { legal };
        let name = if self.taken.contains(&plain) { format!("{plain}_{}", self.names.len()) } else { plain };
        self.taken.insert(name.clone());
        self.names.insert(reference, name.clone());
        self.waiting.push_back(reference);
        name
    }
}

/// The approximate length of a value as JSON; none if longer than `most`.
fn length_up_to(value: &Value, most: usize) -> Option<usize> {
    let length = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(list) => list.iter().try_fold(2, |sum, value| Some(sum + length_up_to(value, most.checked_sub(sum)?)? + 1))?,
        Value::Object(object) => object
            .iter()
            .try_fold(2, |sum, (key, value)| Some(sum + key.len() + length_up_to(value, most.checked_sub(sum + key.len())?)? + 4))?,
    };
    (length <= most).then_some(length)
}

const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];

/// The types that JSON Schema knows; none if there is any other.
fn types(value: &Value) -> Option<Value> {
    let known = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    match value {
        Value::Array(list) => {
            let mut kept: Vec<&Value> = Vec::new();
            for name in list.iter().take(16).filter(|name| known(name)) {
                if !kept.contains(&name) {
                    kept.push(name);
                }
            }
            (!kept.is_empty() && list.iter().take(16).all(known)).then(|| json!(kept))
        }
        name if known(name) => Some(name.clone()),
        _ => None,
    }
}

/// The bounds of numbers: 3.0 says with a truth value that a bound itself is outside, 2020-12 with a bound.
fn bounds(schema: &Map<String, Value>, written: &mut Map<String, Value>) {
    for (inclusive, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
        match schema.get(exclusive) {
            Some(Value::Bool(true)) => {
                if let Some(bound) = written.remove(inclusive) {
                    written.insert(exclusive.to_owned(), bound);
                }
            }
            Some(bound @ Value::Number(_)) => {
                written.insert(exclusive.to_owned(), bound.clone());
            }
            _ => {}
        }
    }
}

/// 3.0's way to say that `null` will do.
fn nullable(mut schema: Map<String, Value>) -> Value {
    match schema.get("type").cloned() {
        Some(Value::String(name)) if name != "null" => {
            schema.insert("type".to_owned(), json!([name, "null"]));
            Value::Object(schema)
        }
        Some(Value::Array(mut names)) => {
            if !names.iter().any(|name| name == "null") {
                names.push("null".into());
            }
            schema.insert("type".to_owned(), Value::Array(names));
            Value::Object(schema)
        }
        _ if ["$ref", "allOf", "anyOf", "oneOf"].iter().any(|word| schema.contains_key(*word)) => {
            json!({"anyOf": [schema, {"type": "null"}]})
        }
        _ => Value::Object(schema),
    }
}

#[cfg(test)]
mod tests;
