//! Redaction of arguments and results for records: secrets and personal numbers, as far as those can be told by their form.
//!
//! Members whose name says that they are secret lose their value whatever it is; texts, names of members among them, lose what events
//! lose as well ([`without_secrets`]), and what has the form of an address of mail, or of a card or social security number. What has no
//! such form stays: recording payloads is a decision, and this only makes its worst consequences less likely.

use gnomon_observe::{is_secret_name, without_secrets};
use regex_automata::{
    Input, Match,
    meta::{BuildError, Regex},
};
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// Longest text that is kept of one value, characters.
pub const MAX_VALUE: usize = 1024;

/// The forms of what is personal. Word boundaries are those of ASCII: the others need tables that not every build has.
const FORMS: &[(&str, &str)] = &[
    ("mail address", r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.[A-Za-z]{2,24}"),
    ("social security number", r"(?-u:\b)[0-9]{3}-[0-9]{2}-[0-9]{4}(?-u:\b)"),
    (CARD, r"(?-u:\b)[0-9](?:[ -]?[0-9]){12,18}(?-u:\b)"),
];
const CARD: &str = "card number";

static PATTERNS: LazyLock<Option<Regex>> = LazyLock::new(|| compiled().ok());

fn compiled() -> Result<Regex, Box<BuildError>> {
    let patterns: Vec<&str> = FORMS.iter().map(|(_, pattern)| *pattern).collect();
    Regex::new_many(&patterns).map_err(Box::new)
}

/// Redacts secrets in a value, names of members included, and shortens its texts to [`MAX_VALUE`].
pub fn redact(value: &mut Value) {
    match value {
        Value::String(text) => *text = shortened(&redacted(text)),
        Value::Array(all) => all.iter_mut().for_each(redact),
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                let is_harmless = match value {
                    // Presence and truth values are no secrets.
                    Value::Null | Value::Bool(_) => true,
                    // Numbers of tokens are limits of a model, no secrets.
                    Value::Number(_) => name.to_ascii_lowercase().ends_with("tokens"),
                    Value::String(_) | Value::Array(_) | Value::Object(_) => false,
                };
                if is_secret_name(name) && !is_harmless {
                    *value = Value::String("[redacted]".to_owned());
                } else {
                    redact(value);
                }
            }
            rename(members);
        }
        Value::Number(number) => {
            let text = number.to_string();
            let plain = redacted(&text);
            if text != plain {
                *value = Value::String(plain);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// Gives members whose names are secret others, each its own.
fn rename(members: &mut Map<String, Value>) {
    if members.keys().all(|name| redacted(name) == *name) {
        return;
    }
    for (name, value) in std::mem::take(members) {
        let plain = redacted(&name);
        let free = (2..).map(|nth| format!("{plain} ({nth})")).find(|name| !members.contains_key(name));
        let name = if members.contains_key(&plain) { free.unwrap_or(name) } else { plain };
        members.insert(name, value);
    }
}

fn redacted(text: &str) -> String {
    let text = &*without_secrets(text);
    // Without the patterns nothing may be shown.
    let Some(patterns) = &*PATTERNS else { return "[redacted]".to_owned() };
    let mut kept = String::with_capacity(text.len());
    let (mut from, mut search) = (0, 0);
    while let Some(found) = patterns.find(Input::new(text).range(search..)) {
        let Some(form) = form(found, text) else {
            // A number that is no card's: what begins within it may still be something else.
            search = found.start() + 1;
            continue;
        };
        kept.push_str(&text[from..found.start()]);
        kept.push_str("[redacted: ");
        kept.push_str(form);
        kept.push(']');
        (from, search) = (found.end(), found.end());
    }
    kept.push_str(&text[from..]);
    kept
}

fn form(found: Match, text: &str) -> Option<&'static str> {
    let (form, _) = FORMS.get(found.pattern().as_usize())?;
    (*form != CARD || has_check_digit(&text[found.range()])).then_some(*form)
}

/// True if the last digit is the check digit of the others (ISO/IEC 7812-1, annex B).
fn has_check_digit(number: &str) -> bool {
    let digits = number.chars().rev().filter_map(|c| c.to_digit(10));
    let sum: u32 = digits
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit) {
            (0, digit) => digit,
            (_, digit @ 0..=4) => 2 * digit,
            (_, digit) => 2 * digit - 9,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_forms_are_patterns() {
        compiled().unwrap();
    }

    #[test]
    fn what_has_the_form_of_a_secret_goes_and_all_else_stays() {
        for (text, expected) in [
            ("deploy with AKIAIOSFODNN7EXAMPLE now", "deploy with *** now"),
            ("Authorization: Bearer abcdefghijkl", "Authorization: Bearer ***"),
            ("ghp_0123456789abcdefghij and xoxb-123456789012-abc", "*** and ***"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_", "***"),
            ("postgres://ada:hunter22@db/x", "postgres://***@db/x"),
            ("password = hunter22, user=ada", "password = ***, user=ada"),
            (r#"{"password": "hunter22", "user": "ada"}"#, r#"{"password": "***", "user": "ada"}"#),
            (r#"{\"db_password\":\"hunter22\",\"user\":1}"#, r#"{\"db_password\":\"***\",\"user\":1}"#),
            ("the 123-45-6789 12345 of ada", "the [redacted: social security number] 12345 of ada"),
            ("write to ada@corp.example.", "write to [redacted: mail address]."),
            ("card 4111 1111 1111 1111!", "card [redacted: card number]!"),
            ("order 4111 1111 1111 1112!", "order 4111 1111 1111 1112!"),
            ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY----- rest", "*** rest"),
            ("-----BEGIN PRIVATE KEY-----\ncut off", "***"),
            ("ssn 078-05-1120", "ssn [redacted: social security number]"),
            (
                "see https://b.s3.example/x?X-Amz-Signature=abc and redis://:abc@h:6379",
                "see https://b.s3.example/x?X-Amz-Signature=*** and redis://***@h:6379",
            ),
            ("https://h/?sig=abc", "https://h/?sig=***"),
            ("https://h/?session_key=abc&%74oken=abc", "https://h/?session_key=***&%74oken=***"),
            ("x_ghp_0123456789abcdefghij", "x_***"),
            ("plain words, 12 files, größe 3.5 MiB", "plain words, 12 files, größe 3.5 MiB"),
        ] {
            assert_eq!(redacted(text), expected);
        }
    }

    #[test]
    fn members_that_are_called_secret_lose_their_value_at_any_depth() {
        let mut value = json!({"a": [{"API-Key": "x", "clientSecret": {"deep": 1}, "max_tokens": 5, "path": "/srv"}], "set-cookie": ["a=b"], "password": 123_456});
        redact(&mut value);
        assert_eq!(
            value,
            json!({"a": [{"API-Key": "[redacted]", "clientSecret": "[redacted]", "max_tokens": 5, "path": "/srv"}], "set-cookie": "[redacted]", "password": "[redacted]"})
        );
        let mut card = json!([4_111_111_111_111_111_u64, 4_111_111_111_111_112_u64, 1.5]);
        redact(&mut card);
        assert_eq!(card, json!(["[redacted: card number]", 4_111_111_111_111_112_u64, 1.5]));
    }

    #[test]
    fn names_of_members_are_texts_as_well_and_none_takes_the_place_of_another() {
        let mut value = json!({"ghp_0123456789abcdefghij": 1, "ghp_0123456789abcdefghik": {"ada@corp.example": 2}, "path": "/srv"});
        redact(&mut value);
        let names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names.len(), 3);
        assert!(names.contains(&"***") && names.contains(&"*** (2)") && names.contains(&"path"), "{names:?}");
        assert!(!value.to_string().contains("ghp_") && value.to_string().contains("[redacted: mail address]"), "{value}");
    }

    #[test]
    fn long_texts_are_cut_after_they_were_redacted() {
        let secret = format!("{} password=hunter22{}", "x".repeat(MAX_VALUE - 12), "y".repeat(5000));
        let mut value = Value::String(secret);
        redact(&mut value);
        let text = value.as_str().unwrap();
        assert!(!text.contains("hunter22") && text.chars().count() < MAX_VALUE + 20, "{text}");
    }
}
