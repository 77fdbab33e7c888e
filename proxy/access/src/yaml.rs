//! Errors in YAML that people wrote, in words: the same for policies and for the configuration that they stand in.

use gnomon_kit::nearest;
use serde_saphyr::Error;

/// The reason that a text could not be read, without its position: the caller puts that in front.
#[must_use]
pub fn cause(error: &Error) -> String {
    match error {
        Error::SerdeUnknownField { field, expected, .. } => format!("unknown key `{field}`{}", hint(field, expected)),
        Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing here; add it"),
        Error::SerdeInvalidType { unexpected, expected, .. } => format!("found {unexpected}, expected {expected}"),
        other => {
            let text = other.to_string();
            let text = text.lines().next().unwrap_or_default();
            let text = text.split(" at line ").next().unwrap_or_default();
            match text.strip_prefix("error: ").unwrap_or(text).split_once(": ") {
                Some((head, rest)) if head.starts_with("line ") => rest.to_owned(),
                _ => text.to_owned(),
            }
        }
    }
}

/// `; did you mean …?` with the nearest of the known words, else all of them, or that there are none.
#[must_use]
pub fn hint(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied(), 0.8) {
        Some(known) => format!("; did you mean `{known}`?"),
        None if known.is_empty() => "; there are none".to_owned(),
        None => format!("; known here: {}", known.join(", ")),
    }
}

/// A text as YAML has it between single quotes (YAML 1.2.2, 7.3.2): every text on one line.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
