//! One observation: a sparse row of the field table.

use crate::{
    FIELD_COUNT, Family, Field, FieldRef, FieldType, TextFindings, UnknownField, Value,
    field_set::FieldSet,
    written::{is_stored_member, written, written_member},
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use smol_str::SmolStr;
use std::{borrow::Cow, sync::Arc};
use thiserror::Error;

/// The version written into `gnomon.schema`.
pub const SCHEMA_VERSION: i64 = 1;

const ABSENT: u8 = u8::MAX;
// A row index fits one byte and leaves a mark for "absent".
const _: () = assert!(FIELD_COUNT < ABSENT as usize);

/// The result of looking up a field in an observation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lookup<'a> {
    /// The field has this value.
    Value(&'a Value),
    /// The field has no value.
    Absent,
    /// The field has a value that could not be read (past a bound, undecodable): neither a match nor a mismatch may be concluded from it.
    Unreadable,
}

/// All evidence about one thing seen. Access by [`Field`] is a table look-up; clones are cheap
/// because text is shared.
#[derive(Debug)]
pub struct Observation {
    index: [u8; FIELD_COUNT],
    values: Vec<Value>,
    members: Vec<(Family, SmolStr, Value)>,
    unreadable: FieldSet,
    unreadable_families: u8,
    /// Fields that have more than their value says.
    partial: FieldSet,
    /// What was found in texts that passed.
    texts: Option<Arc<TextFindings>>,
}

impl Default for Observation {
    fn default() -> Self {
        Self::new()
    }
}

/// Room for the fields that an ordinary call adds to those of its connection.
const ROOM: usize = 24;

impl Clone for Observation {
    /// A copy with room to grow: copies are made in order to add to them.
    fn clone(&self) -> Self {
        let mut values = Vec::with_capacity(self.values.len() + ROOM);
        values.extend_from_slice(&self.values);
        Self {
            index: self.index,
            values,
            members: self.members.clone(),
            unreadable: self.unreadable,
            unreadable_families: self.unreadable_families,
            partial: self.partial,
            texts: self.texts.clone(),
        }
    }
}

impl Observation {
    /// An empty observation.
    #[must_use]
    pub fn new() -> Self {
        let values = Vec::with_capacity(ROOM);
        Self {
            index: [ABSENT; FIELD_COUNT],
            values,
            members: Vec::new(),
            unreadable: FieldSet::default(),
            unreadable_families: 0,
            partial: FieldSet::default(),
            texts: None,
        }
    }

    /// Sets a field, replacing its value.
    #[inline]
    pub fn set(&mut self, field: Field, value: impl Into<Value>) {
        let value = value.into();
        let slot = &mut self.index[field as usize];
        match self.values.get_mut(*slot as usize) {
            Some(old) => *old = value,
            // `values` holds at most one entry per field, and there are fewer than 255 fields.
            None => {
                *slot = self.values.len() as u8;
                self.values.push(value);
            }
        }
    }

    /// Sets a field if there is a value.
    pub fn set_some(&mut self, field: Field, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(field, value);
        }
    }

    /// Makes a field absent again.
    pub fn clear(&mut self, field: Field) {
        let slot = std::mem::replace(&mut self.index[field as usize], ABSENT);
        if (slot as usize) < self.values.len() {
            // The last value moves into the place, so that there are never more values than fields.
            self.values.swap_remove(slot as usize);
            let last = self.values.len() as u8;
            if let Some(moved) = self.index.iter_mut().find(|index| **index == last) {
                *moved = slot;
            }
        }
        self.unreadable.remove(field);
        self.partial.remove(field);
    }

    /// Leaves out of names, ids and addresses that programs chose what is secret in an address: what is made of the observation from now on
    /// (events, lists, alerts) has none of it. Rules judge before.
    pub fn conceal(&mut self) {
        for field in Field::all() {
            if let Some(value) = self.values.get_mut(self.index[field as usize] as usize)
                && let Cow::Owned(concealed) = written(field, value)
            {
                *value = concealed;
            }
        }
        for (family, _, value) in &mut self.members {
            if *family != Family::Argument
                && let Cow::Owned(concealed) = written_member(value)
            {
                *value = concealed;
            }
        }
    }

    /// Sets a member of a family; a member set twice becomes a list.
    pub fn set_member(&mut self, family: Family, name: impl Into<SmolStr>, value: impl Into<Value>) {
        let (name, value) = (name.into(), value.into());
        match self.members.iter_mut().find(|(f, n, _)| *f == family && *n == name) {
            None => self.members.push((family, name, value)),
            Some((_, _, old)) => {
                let mut list = texts(old);
                list.extend(texts(&value));
                *old = Value::List(list);
            }
        }
    }

    /// Marks a field as having a value which could not be read.
    pub fn set_unreadable(&mut self, field: Field) {
        self.unreadable.insert(field);
    }

    /// Says that a field has more values than those which are set: what is found among them is found, that something is not there is
    /// not known.
    pub fn set_partial(&mut self, field: Field) {
        self.partial.insert(field);
    }

    /// Sets what was found in the texts of its answer, or that they are not known.
    pub fn set_texts(&mut self, found: Option<Arc<TextFindings>>) {
        self.texts = found;
    }

    /// What was found in the texts of its answer.
    #[must_use]
    #[inline]
    pub fn texts(&self) -> Option<&TextFindings> {
        self.texts.as_deref()
    }

    /// Bytes of memory that it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let text = |value: &Value| match value {
            Value::Str(text) => text.len(),
            Value::List(texts) => texts.iter().map(|text| size_of::<SmolStr>() + text.len()).sum(),
            Value::Int(_) | Value::Bool(_) => 0,
        };
        let values = self.values.iter().map(|value| size_of::<Value>() + text(value)).sum::<usize>();
        let members = self.members.iter().map(|(_, name, value)| size_of::<(Family, SmolStr, Value)>() + name.len() + text(value));
        size_of::<Self>() + values + members.sum::<usize>() + self.texts().map_or(0, TextFindings::bytes)
    }

    /// True if the field has more values than those that are known.
    #[must_use]
    #[inline]
    pub fn is_partial(&self, field: &FieldRef) -> bool {
        matches!(field, FieldRef::Field(field) if self.partial.contains(*field))
    }

    /// Marks members of a family as possibly missing.
    pub fn set_family_unreadable(&mut self, family: Family) {
        self.unreadable_families |= 1 << family as u8;
    }

    /// The value of a field.
    #[must_use]
    #[inline]
    pub fn get(&self, field: Field) -> Lookup<'_> {
        match self.values.get(self.index[field as usize] as usize) {
            Some(value) => Lookup::Value(value),
            None if self.unreadable.contains(field) => Lookup::Unreadable,
            None => Lookup::Absent,
        }
    }

    /// The value of anything a rule can name.
    #[must_use]
    #[inline]
    pub fn look_up(&self, field: &FieldRef) -> Lookup<'_> {
        match field {
            FieldRef::Field(field) => self.get(*field),
            FieldRef::Member(family, name) => match self.members.iter().find(|(f, n, _)| f == family && n == name) {
                Some((_, _, value)) => Lookup::Value(value),
                None if self.unreadable_families & (1 << *family as u8) != 0 => Lookup::Unreadable,
                None => Lookup::Absent,
            },
        }
    }

    /// The text of a field, if it has one.
    #[must_use]
    #[inline]
    pub fn text(&self, field: Field) -> Option<&str> {
        match self.get(field) {
            Lookup::Value(value) => value.as_str(),
            _ => None,
        }
    }

    /// The number of calls it counts for: [`Field::Calls`], else one.
    #[must_use]
    pub fn calls(&self) -> u64 {
        match self.get(Field::Calls) {
            Lookup::Value(value) => value.as_int().and_then(|calls| u64::try_from(calls).ok()).unwrap_or(1),
            Lookup::Absent | Lookup::Unreadable => 1,
        }
    }

    /// All values that are present, for keyword searches: fields in table order, then members.
    pub fn values(&self) -> impl Iterator<Item = (FieldRef, &Value)> {
        let fields = Field::all().filter_map(|field| match self.get(field) {
            Lookup::Value(value) => Some((FieldRef::Field(field), value)),
            _ => None,
        });
        fields.chain(self.members.iter().map(|(family, name, value)| (FieldRef::Member(*family, name.clone()), value)))
    }

    pub(crate) fn members(&self) -> &[(Family, SmolStr, Value)] {
        &self.members
    }

    /// True if any field could not be read.
    #[must_use]
    pub fn has_unreadable(&self) -> bool {
        !self.unreadable.is_empty() || self.unreadable_families != 0
    }

    /// Sets the field that `name` names, from JSON.
    ///
    /// # Errors
    /// When the name is not in the table or the value has another type than its field.
    pub fn set_json(&mut self, name: &str, json: &serde_json::Value) -> Result<(), JsonError> {
        let field: FieldRef = name.parse()?;
        let value = from_json(json).ok_or_else(|| JsonError::Shape { name: name.to_owned() })?;
        match field {
            FieldRef::Member(family, member) => self.set_member(family, member, value),
            FieldRef::Field(field) => {
                let value = fit(field, value).ok_or_else(|| JsonError::Type { name: name.to_owned(), kind: field.info().kind })?;
                self.set(field, value);
            }
        }
        Ok(())
    }

    /// Reads an observation from a flat JSON object, as [`Serialize`] writes it.
    ///
    /// # Errors
    /// When a name is not in the table or a value has another type than its field.
    pub fn from_json(object: &serde_json::Map<String, serde_json::Value>) -> Result<Self, JsonError> {
        let mut seen = Self::new();
        for (name, value) in object {
            seen.set_json(name, value)?;
        }
        Ok(seen)
    }
}

/// An error in the JSON of an observation.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum JsonError {
    /// The name is not in the table.
    #[error(transparent)]
    Name(#[from] UnknownField),
    /// Objects, nulls, fractions and lists of anything but texts and numbers have no place.
    #[error("`{name}` must be a text, a whole number, true, false or a list of texts")]
    Shape {
        /// The field.
        name: String,
    },
    /// The value has another type than its field.
    #[error("`{name}` must be of type {kind:?}")]
    Type {
        /// The field.
        name: String,
        /// Its type.
        kind: FieldType,
    },
}

fn texts(value: &Value) -> Vec<SmolStr> {
    match value {
        Value::Str(text) => vec![text.clone()],
        Value::Int(number) => vec![number.to_string().into()],
        Value::Bool(truth) => vec![truth.to_string().into()],
        Value::List(list) => list.clone(),
    }
}

fn from_json(json: &serde_json::Value) -> Option<Value> {
    Some(match json {
        serde_json::Value::String(text) => Value::Str(text.into()),
        serde_json::Value::Number(number) => Value::Int(number.as_i64()?),
        serde_json::Value::Bool(truth) => Value::Bool(*truth),
        serde_json::Value::Array(list) => Value::List(
            list.iter()
                .map(|item| match item {
                    serde_json::Value::String(text) => Some(SmolStr::new(text)),
                    serde_json::Value::Number(number) => Some(number.to_string().into()),
                    _ => None,
                })
                .collect::<Option<_>>()?,
        ),
        serde_json::Value::Null | serde_json::Value::Object(_) => return None,
    })
}

/// The value in the type of its field: a single text fits a list, a number fits a text.
fn fit(field: Field, value: Value) -> Option<Value> {
    match (field.info().kind, value) {
        (FieldType::Str, Value::Int(number)) => Some(Value::Str(number.to_string().into())),
        (FieldType::List, Value::Str(text)) => Some(Value::List(vec![text])),
        (FieldType::Str, value @ Value::Str(_))
        | (FieldType::Int, value @ Value::Int(_))
        | (FieldType::Bool, value @ Value::Bool(_))
        | (FieldType::List, value @ Value::List(_)) => Some(value),
        _ => None,
    }
}

/// A flat object with dotted keys in the table's order. Transient fields and arguments are left
/// out; request and response headers that were looked at are written.
impl Serialize for Observation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for field in Field::all() {
            if let Lookup::Value(value) = self.get(field)
                && field.info().is_stored()
            {
                map.serialize_entry(field.name(), &*written(field, value))?;
            }
        }
        for (family, name, value) in &self.members {
            if is_stored_member(*family, name) {
                map.serialize_entry(&format_args!("{}{name}", family.prefix()), &*written_member(value))?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_set_twice_keep_the_last_value() {
        let mut seen = Observation::new();
        seen.set(Field::UrlPath, "/a");
        seen.set(Field::UrlPath, "/b");
        assert_eq!(seen.text(Field::UrlPath), Some("/b"));
        seen.clear(Field::UrlPath);
        assert_eq!(seen.get(Field::UrlPath), Lookup::Absent);
    }

    #[test]
    fn fields_cleared_and_set_over_and_over_keep_to_themselves() {
        let mut seen = Observation::new();
        seen.set(Field::UserName, "ada");
        for time in 0..1000_u64 {
            seen.set(Field::ServerPort, time);
            seen.set(Field::UrlPath, format!("/{time}"));
            seen.clear(Field::ServerPort);
            assert_eq!((seen.text(Field::UserName), seen.text(Field::UrlPath)), (Some("ada"), Some(&*format!("/{time}"))));
            assert_eq!(seen.get(Field::ServerPort), Lookup::Absent);
        }
        assert_eq!(seen.values.len(), 2);
    }

    #[test]
    fn an_unreadable_field_is_neither_present_nor_absent() {
        let mut seen = Observation::new();
        seen.set_unreadable(Field::ToolName);
        seen.set_family_unreadable(Family::Argument);
        assert_eq!(seen.get(Field::ToolName), Lookup::Unreadable);
        assert_eq!(seen.look_up(&FieldRef::Member(Family::Argument, "path".into())), Lookup::Unreadable);
        seen.set(Field::ToolName, "echo");
        assert!(matches!(seen.get(Field::ToolName), Lookup::Value(_)));
    }

    #[test]
    fn what_people_typed_and_credentials_are_never_written() {
        let mut seen = Observation::new();
        seen.set(Field::ToolArguments, vec!["/etc/passwd".into()]);
        seen.set(Field::BodyText, "{}");
        seen.set_member(Family::Argument, "path", "/etc/passwd");
        seen.set_member(Family::RequestHeader, "authorization", "Bearer x");
        seen.set_member(Family::RequestHeader, "x-gitlab-token", "x");
        seen.set_member(Family::RequestHeader, "mcp-name", "echo");
        assert_eq!(serde_json::to_string(&seen).unwrap(), r#"{"http.request.header.mcp-name":"echo"}"#);
    }

    #[test]
    fn every_field_that_may_be_an_address_is_written_without_what_an_address_has_of_secrets() {
        let addresses: Vec<_> = Field::all().filter(|field| field.info().retention == crate::Retention::Address).collect();
        assert!(addresses.contains(&Field::ResourceUri));
        for field in addresses {
            let mut seen = Observation::new();
            seen.set(field, "https://usr:pw@h.example/x?token=abc&id=1");
            let name = field.name();
            assert_eq!(serde_json::to_string(&seen).unwrap(), format!(r#"{{"{name}":"https://***@h.example/x?token=***&id=1"}}"#));
        }
    }

    #[test]
    fn what_is_made_of_an_observation_has_no_secret_of_an_address_in_a_name() {
        let mut seen = Observation::new();
        seen.set(Field::Tools, vec!["echo".into(), "https://h.example/?api_key=abc".into()]);
        seen.set(Field::McpClientName, "https://usr:pw@h.example/");
        seen.set(Field::ToolName, "echo");
        seen.conceal();
        let texts = [seen.text(Field::McpClientName), seen.text(Field::ToolName)];
        assert_eq!(texts, [Some("https://***@h.example/"), Some("echo")]);
        assert_eq!(seen.get(Field::Tools), Lookup::Value(&Value::List(vec!["echo".into(), "https://h.example/?api_key=***".into()])));
    }

    #[test]
    fn every_stored_sample_survives_a_round_trip() {
        let mut object = serde_json::Map::new();
        for info in crate::FIELDS.iter().filter(|i| i.is_stored()) {
            object.insert(info.name.to_owned(), serde_json::from_str(info.sample).unwrap());
        }
        let seen = Observation::from_json(&object).unwrap();
        assert_eq!(serde_json::to_value(&seen).unwrap(), serde_json::Value::Object(object));
    }

    #[test]
    fn json_of_the_wrong_type_says_which_is_right() {
        let error = Observation::new().set_json("server.port", &serde_json::json!("https")).unwrap_err();
        assert_eq!(error.to_string(), "`server.port` must be of type Int");
        assert!(Observation::new().set_json("url.path", &serde_json::json!({})).is_err());
    }

    #[test]
    fn a_header_sent_twice_is_a_list() {
        let mut seen = Observation::new();
        seen.set_member(Family::RequestHeader, "accept", "a");
        seen.set_member(Family::RequestHeader, "accept", "b");
        let accept = FieldRef::Member(Family::RequestHeader, "accept".into());
        assert_eq!(seen.look_up(&accept), Lookup::Value(&Value::List(vec!["a".into(), "b".into()])));
    }
}
