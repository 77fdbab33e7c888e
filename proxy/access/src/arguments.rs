//! Arguments of a call, read so that policy and server cannot see two different calls: a name that stands twice in an
//! object is refused (RFC 8259 4 leaves open which one counts), and size and depth are bounded.

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;
use thiserror::Error;

/// The deepest nesting of arguments.
pub const MAX_DEPTH: usize = 64;

/// An error in arguments, which cannot be judged.
#[derive(Debug, Error)]
#[error("the arguments cannot be judged: {0}")]
pub struct ArgumentsError(#[from] serde_json::Error);

/// Reads the `arguments` of a call.
///
/// The caller has bounded their size: a value takes up to some thirty times the text's memory.
///
/// # Errors
/// When they are not JSON, name something twice in one object, or nest deeper than [`MAX_DEPTH`].
pub fn arguments(json: &[u8]) -> Result<Value, ArgumentsError> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = Strict(MAX_DEPTH).deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// A value with so many levels left.
#[derive(Clone, Copy)]
struct Strict(usize);

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Strict).ok_or_else(|| E::custom(format_args!("nested deeper than {MAX_DEPTH} levels")))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let seed = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(seed)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let seed = self.deeper()?;
        let mut values = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if values.contains_key(&name) {
                return Err(de::Error::custom("an object has the same name twice"));
            }
            let value = map.next_value_seed(seed)?;
            values.insert(name, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_is_refused_at_any_depth() {
        for json in [r#"{"limit":1,"limit":1000}"#, r#"{"a":[{"b":1,"\u0062":2}]}"#] {
            assert!(arguments(json.as_bytes()).unwrap_err().to_string().contains("twice"), "{json}");
        }
    }

    #[test]
    fn ordinary_arguments_are_read_as_they_are() {
        let json = r#"{"a":[1,-2,3.5,true,null,"x"],"b":{"a":{}}}"#;
        assert_eq!(arguments(json.as_bytes()).unwrap().to_string(), json);
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(arguments(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(arguments(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(arguments(nested(1 << 20).as_bytes()).is_err());
        assert!(arguments(b"{} {}").is_err(), "one document");
    }
}
