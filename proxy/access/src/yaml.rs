//! Errors in YAML that people wrote, in words: the same for policies and for the configuration that they stand in.

use gnomon_kit::{nearest, yaml_fault};
use serde_saphyr::Error;
use std::borrow::Cow;

/// Words that are the library's, not of the file.
const OF_THE_LIBRARY: [&str; 9] = ["deserializ", "untagged", "variant", "serde", "saphyr", "struct ", "enum", "scalar", " at line "];
/// What is said where nothing more particular can be.
const NOT_OF_THE_FORM: &str = "the value does not have the form that is expected here";

/// The reason that a text could not be read, without its position: the caller puts that in front.
#[must_use]
pub fn cause(error: &Error) -> String {
    match error {
        Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => cause(error),
        Error::SerdeUnknownField { field, expected, .. } => format!("unknown key `{field}`{}", hint(field, expected)),
        Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing here; add it"),
        Error::SerdeInvalidType { unexpected, expected, .. } | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("found {}, expected {}", thing(unexpected), wanted(expected))
        }
        Error::SerdeInvalidLength { len, expected, .. } => format!("found {len} entries, expected {}", wanted(expected)),
        Error::SerdeUnknownVariant { variant, expected, .. } => format!("`{variant}` is not known here{}", hint(variant, expected)),
        Error::Unexpected { expected, .. } => format!("expected {}", wanted(expected)),
        Error::InvalidScalar { ty, .. } => format!("the value is not {}", wanted(ty)),
        Error::InvalidBooleanStrict { .. } => "the value is neither true nor false".to_owned(),
        Error::NonFiniteFloat { value, .. } => format!("`{value}` is not a number that is taken here"),
        Error::NullIntoString { .. } => "the value is empty; expected a text".to_owned(),
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` is given twice; merge the two"),
        Error::DuplicateMappingKey { .. } => "a key is given twice; merge the two".to_owned(),
        Error::MultipleDocuments { .. } => "a second document begins here (`---`), and one is read; put all into one".to_owned(),
        Error::Eof { .. } => "the text ends where a value is expected".to_owned(),
        Error::UnknownAnchor { .. } => yaml_fault("anchor").to_owned(),
        Error::InvalidUtf8Input => "it is not UTF-8".to_owned(),
        Error::MergeValueNotMapOrSeqOfMaps { .. } | Error::MergeKeyNotAllowed { .. } => {
            "`<<` merges only mappings that stand above: write the keys out".to_owned()
        }
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => "it is nested deeper, or repeats more by `*`, than is read".to_owned(),
        Error::ExternalMessage { msg, .. } => yaml_fault(msg).to_owned(),
        Error::IOError { cause } => cause.to_string(),
        // Of our own readers, which say what they expect.
        Error::Message { msg, .. } if !OF_THE_LIBRARY.iter().any(|word| msg.to_ascii_lowercase().contains(word)) => msg.clone(),
        Error::FoldedBlockScalarMustIndentContent { .. } => yaml_fault("block scalar").to_owned(),
        Error::UnexpectedContainerEndWhileReadingKeyNode { .. } | Error::ContainerEndMismatch { .. } => yaml_fault("bracket").to_owned(),
        Error::UnsupportedTag { .. } | Error::TaggedEnumMismatch { .. } | Error::TaggedScalarCannotDeserializeIntoString { .. } => {
            yaml_fault("tag").to_owned()
        }
        _ => NOT_OF_THE_FORM.to_owned(),
    }
}

/// What was found, as serde names it.
fn thing(unexpected: &str) -> Cow<'_, str> {
    for (kind, named) in [("string ", "the text "), ("integer ", "the number "), ("floating point ", "the number "), ("boolean ", "")] {
        if let Some(value) = unexpected.strip_prefix(kind) {
            return format!("{named}{}", value.replace('"', "`")).into();
        }
    }
    match unexpected {
        "map" => "a mapping".into(),
        "sequence" => "a list".into(),
        "unit value" | "unit" | "null" | "Option value" => "nothing".into(),
        other if OF_THE_LIBRARY.iter().any(|word| other.contains(word)) => "something else".into(),
        other => other.into(),
    }
}

/// What was expected, as serde or the library names it.
fn wanted(expected: &str) -> Cow<'_, str> {
    let expected = expected.trim();
    match expected.strip_prefix("a ").or_else(|| expected.strip_prefix("an ")).unwrap_or(expected) {
        "string" | "str" | "text" | "borrowed string" | "char" => "a text".into(),
        "boolean" | "bool" => "true or false".into(),
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "nonzero u16" | "nonzero u32" | "nonzero u64" | "nonzero usize" => {
            "a whole number, not below 0, that fits here".into()
        }
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" | "integer" => "a whole number".into(),
        "f32" | "f64" | "float" | "number" => "a number".into(),
        "map" | "mapping" | "mapping start" => "a mapping".into(),
        "sequence" | "sequence start" => "a list".into(),
        "unit" | "unit value" | "null" => "nothing".into(),
        other if other.starts_with("struct ") => "a mapping of keys".into(),
        other if OF_THE_LIBRARY.iter().any(|word| other.to_ascii_lowercase().contains(word)) => "another kind of value".into(),
        _ => expected.into(),
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
