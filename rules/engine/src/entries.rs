//! Entries that rules, filters and overrides share: their keys, and the parsers of their texts, words and times.

use crate::{
    Activity,
    error::{Report, hint},
    yaml::{Key, Node, NodeKind, Plain},
};
use smol_str::SmolStr;
use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};
use time::{Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

/// The longest file, in bytes.
pub(crate) const MAX_FILE: usize = 1 << 20;
/// The longest title, in characters (Sigma 2.1.0).
const MAX_TITLE: usize = 256;

pub(crate) fn required<'n>(document: &'n Node, key: &str, what: &str, report: &mut Report<'_>) -> Option<&'n Node> {
    match document.get(key) {
        Some(node) => Some(node),
        None => report.at(document.at, format!("`{key}` is missing; give {what}")),
    }
}

pub(crate) fn title_of(node: &Node, report: &mut Report<'_>) -> Option<SmolStr> {
    let title = text(node, report)?;
    if title.trim().is_empty() || title.chars().count() > MAX_TITLE || title.contains(['\n', '\r']) {
        return report.at(node.at, format!("`title` must be one line of 1 to {MAX_TITLE} characters"));
    }
    Some(title)
}

pub(crate) fn id_of(node: &Node, report: &mut Report<'_>) -> Option<SmolStr> {
    let id = text(node, report)?;
    let uuid = id.len() == 36
        && id.bytes().enumerate().all(|(n, b)| if matches!(n, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() });
    if !uuid {
        return report.at(node.at, format!("`{id}` is not a UUID; uuidgen makes one"));
    }
    Some(id.to_ascii_lowercase().into())
}

/// A word of a closed vocabulary.
pub(crate) fn word<T: FromStr<Err = gnomon_observe::UnknownWord>>(node: &Node, report: &mut Report<'_>) -> Option<T> {
    let Some(text) = node.text() else {
        return report.at(node.at, format!("a word is expected here, not {}", node.what()));
    };
    match text.parse() {
        Ok(word) => Some(word),
        Err(error) => report.at(node.at, error.to_string()),
    }
}

/// A text.
pub(crate) fn text(node: &Node, report: &mut Report<'_>) -> Option<SmolStr> {
    match node.text() {
        Some(text) => Some(text.into()),
        None => report.at(node.at, format!("a text is expected here, not {}", node.what())),
    }
}

pub(crate) fn texts(node: Option<&Node>, report: &mut Report<'_>) -> Vec<SmolStr> {
    match node.map(|node| (node, &node.kind)) {
        None => Vec::new(),
        Some((_, NodeKind::List(list))) => list.iter().filter_map(|node| text(node, report)).collect(),
        Some((node, _)) => {
            report.at::<()>(node.at, format!("a list of texts is expected here, not {}", node.what()));
            Vec::new()
        }
    }
}

/// The entries of a mapping, when each key is known.
pub(crate) fn known_entries<'n>(node: &'n Node, name: &str, known: &[&str], report: &mut Report<'_>) -> Option<&'n [(Key, Node)]> {
    let NodeKind::Map(entries) = &node.kind else {
        return report.at(node.at, format!("`{name}` must be a mapping, not {}", node.what()));
    };
    let mut complete = Some(entries.as_slice());
    for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.name.as_str())) {
        complete = report.at(key.at, format!("unknown key `{}` in `{name}`{}", key.name, hint(&key.name, known)));
    }
    complete
}

/// `enabled: true | false`.
pub(crate) fn activity(node: &Node, report: &mut Report<'_>) -> Option<Activity> {
    match &node.kind {
        NodeKind::Scalar(scalar) if scalar.value == Plain::Bool(true) => Some(Activity::Active),
        NodeKind::Scalar(scalar) if scalar.value == Plain::Bool(false) => Some(Activity::Disabled),
        _ => report.at(node.at, "`enabled` takes true or false"),
    }
}

/// `2026-12-31` (to the end of that day, UTC) or RFC 3339.
pub(crate) fn moment(text: &str) -> Option<SystemTime> {
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(moment.into());
    }
    let day = Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?;
    SystemTime::from(day.midnight().assume_utc()).checked_add(Duration::from_secs(86_400))
}
