//! Integers that are longer than numbers are exact.

use gnomon_kit::{Integer, integers};

/// The largest that a number holds exactly, and all below it (ECMA-262, 21.1.2.6).
const SAFE: u64 = (1 << 53) - 1;
/// Digits of the shortest that it does not.
const DIGITS: usize = 16;

/// This JSON with such integers as texts of their digits: identifiers that a script would otherwise read as others, without a
/// word. None if it has none.
pub fn exact(json: &str) -> Option<String> {
    let mut copied = 0;
    let mut out: Option<String> = None;
    for Integer { at, written } in integers(json).filter(|integer| is_inexact(integer.written)) {
        let out = out.get_or_insert_default();
        out.push_str(json.get(copied..at).unwrap_or_default());
        out.extend(["\"", written, "\""]);
        copied = at + written.len();
    }
    out.map(|out| out + json.get(copied..).unwrap_or_default())
}

fn is_inexact(integer: &str) -> bool {
    let digits = integer.strip_prefix('-').unwrap_or(integer);
    digits.len() >= DIGITS && digits.parse::<u64>().map_or(true, |value| value > SAFE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use serde_json::Value;

    #[test]
    fn what_a_number_does_not_hold_is_a_text_and_all_else_is_as_it_was() {
        for (json, wanted) in [
            (r#"{"id":9007199254740993}"#, Some(r#"{"id":"9007199254740993"}"#)),
            ("[1, -9223372036854775808 ,2]", Some(r#"[1, "-9223372036854775808" ,2]"#)),
            ("123456789012345678901234567890", Some(r#""123456789012345678901234567890""#)),
            (r#"{"a\\":"9007199254740993","b\"9007199254740993":9007199254740991}"#, None),
            ("[9007199254740991,1.2345678901234567890,12345678901234567e3,1e400]", None),
            (r#""9007199254740993"#, None),
            ("", None),
        ] {
            assert_eq!(exact(json).as_deref(), wanted, "{json}");
        }
    }

    proptest! {
        #[test]
        fn integers_keep_their_digits(integers in vec("-?(0|[1-9][0-9]{0,30})", 1..8), text in any::<String>()) {
            let members: Vec<String> = integers.iter().enumerate().map(|(at, integer)| format!("\"{at}\": {integer}")).collect();
            let json = format!("{{{}, \"text\": {}}}", members.join(", "), Value::from(text.as_str()));
            let read: Value = serde_json::from_str(exact(&json).as_deref().unwrap_or(&json)).unwrap();
            for (at, integer) in integers.iter().enumerate() {
                match &read[at.to_string()] {
                    Value::String(digits) => prop_assert_eq!(digits, integer),
                    // A number of JavaScript is a float of 64 bits.
                    number => {
                        let float = number.as_f64().unwrap();
                        prop_assert!(float.abs() <= SAFE as f64, "{}", integer);
                        prop_assert_eq!(float as i64, integer.parse::<i64>().unwrap());
                    }
                }
            }
            prop_assert_eq!(read["text"].as_str(), Some(text.as_str()));
        }
    }
}
