//! The value of a field: text, number, truth or a list of texts. Nothing nests.

use serde::{Serialize, Serializer};
use smol_str::SmolStr;

/// The value of a field. Text is cheap to clone: short text is inline, long text is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text, UTF-8.
    Str(SmolStr),
    /// A whole number.
    Int(i64),
    /// Yes or no.
    Bool(bool),
    /// Several texts, in the order seen.
    List(Vec<SmolStr>),
}

impl Value {
    /// The text, if this is one text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if this is one.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Str(text.into())
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Str(text.into())
    }
}
impl From<SmolStr> for Value {
    fn from(text: SmolStr) -> Self {
        Value::Str(text)
    }
}
impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Value::Int(number.into())
    }
}
impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Value::Bool(truth)
    }
}
impl From<Vec<SmolStr>> for Value {
    fn from(list: Vec<SmolStr>) -> Self {
        Value::List(list)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Str(text) => serializer.serialize_str(text),
            Value::Int(number) => serializer.serialize_i64(*number),
            Value::Bool(truth) => serializer.serialize_bool(*truth),
            Value::List(list) => list.serialize(serializer),
        }
    }
}
