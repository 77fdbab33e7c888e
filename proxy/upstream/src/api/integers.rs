//! Integers that are longer than what is read of arguments holds.
//!
//! serde_json reads an integer beyond 64 bits as a float, without its last digits; its feature `arbitrary_precision` would change every
//! number of the program. So the text of arguments is read a second time where they hold a float that such an integer could have
//! become, and what is written in that place decides. Either reading is linear, and refuses more than serde_json's 128 levels.

use serde::{
    Deserialize as _,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor},
};
use serde_json::{Number, Value, value::RawValue};
use std::fmt;

/// From here on a float may have been an integer: 2^63.
const BEYOND: f64 = 9_223_372_036_854_775_808.0;
/// Most characters of an integer that are told.
const TOLD: usize = 40;

/// The first integer of this JSON that 64 bits do not hold, cut to 40 characters; `read` is what was read of it.
///
/// # Errors
/// Where `json` and `read` differ: a member stands twice.
pub(super) fn beyond<'a>(json: &'a str, read: &Value) -> Result<Option<&'a str>, serde_json::Error> {
    if !holds_one(read) {
        return Ok(None);
    }
    let mut found = None;
    Beside { read: Some(read), found: &mut found }.deserialize(&mut serde_json::Deserializer::from_str(json))?;
    Ok(found.map(|integer: &str| integer.get(..TOLD).unwrap_or(integer)))
}

/// Whether any of this may have been such an integer.
fn holds_one(read: &Value) -> bool {
    match read {
        Value::Number(number) => may_be_one(number),
        Value::Array(elements) => elements.iter().any(holds_one),
        Value::Object(members) => members.values().any(holds_one),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fn may_be_one(number: &Number) -> bool {
    number.is_f64() && number.as_f64().is_some_and(|value| value.abs() >= BEYOND)
}

/// A value's text, read beside what was read of it before.
struct Beside<'v, 'f, 'a> {
    read: Option<&'v Value>,
    found: &'f mut Option<&'a str>,
}

impl<'de> DeserializeSeed<'de> for Beside<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<(), D::Error> {
        match self.read {
            Some(Value::Number(number)) if may_be_one(number) => {
                let written = <&RawValue>::deserialize(text)?.get();
                let digits = written.strip_prefix('-').unwrap_or(written);
                if digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    self.found.get_or_insert(written);
                }
                Ok(())
            }
            Some(Value::Array(_)) => text.deserialize_seq(self),
            Some(Value::Object(_)) => text.deserialize_map(self),
            _ => IgnoredAny::deserialize(text).map(drop),
        }
    }
}

impl<'de> Visitor<'de> for Beside<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what was read before")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Some(Value::Array(read)) = self.read else { return Err(A::Error::invalid_type(Unexpected::Seq, &self)) };
        let mut read = read.iter();
        while elements.next_element_seed(Beside { read: read.next(), found: self.found })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Some(Value::Object(read)) = self.read else { return Err(A::Error::invalid_type(Unexpected::Map, &self)) };
        while let Some(name) = members.next_key::<String>()? {
            members.next_value_seed(Beside { read: read.get(&name), found: self.found })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_beyond_64_bits_is_found_and_nothing_else() {
        let long = format!("[{}]", "9".repeat(200));
        for (json, found) in [
            (r#"{"a":18446744073709551615,"b":[-9223372036854775808,1.5e300,12345678901234567890.5]}"#, None),
            (r#"{"a":"18446744073709551616","b\"99999999999999999999":1}"#, None),
            (r#"{"a":"18446744073709551616","b":[1e300,{"c":18446744073709551616.0}]}"#, None),
            (r#"{"a":[1, 18446744073709551616 ]}"#, Some("18446744073709551616")),
            (r#"{"a":[1e300],"b\u0061":{"c":[[],2,18446744073709551617,18446744073709551618]}}"#, Some("18446744073709551617")),
            ("-9223372036854775809", Some("-9223372036854775809")),
            (&long, Some(&long[1..=TOLD])),
        ] {
            assert_eq!(beyond(json, &serde_json::from_str(json).unwrap()).unwrap(), found, "{json}");
        }
    }

    #[test]
    fn of_a_member_that_stands_twice_none_passes_unread() {
        for (json, found) in [
            // What is sent is the last.
            (r#"{"a":1e300,"a":18446744073709551616}"#, Some(Some("18446744073709551616"))),
            (r#"{"a":[18446744073709551616],"a":1e300}"#, Some(None)),
            (r#"{"a":1,"a":[1e300],"b":18446744073709551616}"#, None),
        ] {
            assert_eq!(beyond(json, &serde_json::from_str(json).unwrap()).ok(), found, "{json}");
        }
    }
}
