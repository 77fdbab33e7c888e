//! The integers of JSON with all their digits. Whoever reads JSON into numbers keeps fifteen digits of them, or nineteen, and serde_json's
//! `arbitrary_precision` would change every number of the program: so they are looked for in the text.

use std::iter;

/// An integer as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer<'a> {
    /// The byte at which it begins.
    pub at: usize,
    /// Its sign, if it has one, and its digits.
    pub written: &'a str,
}

/// The integers of this JSON (RFC 8259) in order: numbers without fraction and exponent. Of a text that is no JSON they are those that a reader could
/// take for some. Linear.
pub fn integers(json: &str) -> impl Iterator<Item = Integer<'_>> {
    let mut at = 0;
    iter::from_fn(move || {
        let bytes = json.as_bytes();
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => at = end_of_text(bytes, at),
                b'-' | b'0'..=b'9' => {
                    let (begin, rest) = (at, bytes.get(at..).unwrap_or_default());
                    at += rest.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
                    let written = json.get(begin..at).unwrap_or_default();
                    let digits = written.strip_prefix('-').unwrap_or(written);
                    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
                        return Some(Integer { at: begin, written });
                    }
                }
                _ => at += 1,
            }
        }
        None
    })
}

/// The end of the string that begins at `begin`.
fn end_of_text(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use serde_json::{Value, json};

    /// JSON, and the integers that were put into it.
    type Written = (String, Vec<String>);

    fn leaf() -> impl Strategy<Value = Written> {
        let none = |json: String| (json, Vec::new());
        prop_oneof![
            "-?(0|[1-9][0-9]{0,40})".prop_map(|integer| (integer.clone(), vec![integer])),
            "-?(0|[1-9][0-9]{0,20})\\.[0-9]{1,20}".prop_map(none),
            "-?[1-9][0-9]{0,20}(\\.[0-9]{1,20})?[eE][-+]?[0-9]{1,2}".prop_map(none),
            any::<String>().prop_map(move |text| none(json!(text).to_string())),
            "[\\\\\"0-9-]{0,12}".prop_map(move |text| none(json!(text).to_string())),
            prop_oneof![Just("true"), Just("false"), Just("null")].prop_map(move |word| none(word.to_owned())),
        ]
    }

    fn json() -> impl Strategy<Value = Written> {
        let together = |open: char, all: Vec<Written>, close: char| {
            let (texts, integers): (Vec<_>, Vec<_>) = all.into_iter().unzip();
            (format!("{open}{}{close}", texts.join(" , ")), integers.concat())
        };
        leaf().prop_recursive(5, 64, 6, move |inner| {
            let member =
                ("[\\\\\"0-9a]{0,8}", inner.clone()).prop_map(|(name, (value, integers))| (format!("{}: {value}", json!(name)), integers));
            prop_oneof![
                vec(inner, 0..6).prop_map(move |all| together('[', all, ']')),
                vec(member, 0..6).prop_map(move |all| together('{', all, '}')),
            ]
        })
    }

    proptest! {
        #[test]
        fn integers_are_found_in_order_with_all_their_digits_and_nothing_else_is((json, wanted) in json()) {
            prop_assert!(serde_json::from_str::<Value>(&json).is_ok(), "{}", json);
            let found: Vec<Integer<'_>> = integers(&json).collect();
            prop_assert_eq!(found.iter().map(|integer| integer.written).collect::<Vec<_>>(), wanted);
            for Integer { at, written } in found {
                prop_assert_eq!(json.get(at..at + written.len()), Some(written));
            }
        }

        #[test]
        fn of_any_text_what_is_found_is_where_it_is_said_to_be(text in ".{0,40}|[-+.eE0-9\"\\\\ ]{0,40}") {
            for Integer { at, written } in integers(&text) {
                prop_assert_eq!(text.get(at..at + written.len()), Some(written));
                prop_assert!(written.strip_prefix('-').unwrap_or(written).bytes().all(|byte| byte.is_ascii_digit()));
            }
        }
    }
}
