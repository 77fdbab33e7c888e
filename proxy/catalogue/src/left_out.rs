//! Entries of servers' lists that are not offered: which, and why. The other entries stay.

use crate::{kind::Kind, naming::is_hidden};
use gnomon_observe::without_secrets;
use smol_str::SmolStr;
use std::collections::HashSet;

/// The most entries that are logged one by one each time a list changes.
const MOST_LOGGED: usize = 20;
/// Longest name that is kept of one, characters.
const LONGEST_NAME: usize = 120;
/// So many characters of it are looked at: half of a secret does not look like one.
const LOOKED_AT: usize = 8192;

/// The reason that an entry is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Clients could not read it, and with it the whole list.
    Shape,
    /// The name is not allowed, or is misleading.
    Name,
    /// Its schema costs more than its bound.
    Cost,
    /// The entry is too large, or beyond what is kept of a list.
    Size,
    /// Another entry has its name.
    Duplicate,
    /// Its `x-mcp-header` is invalid.
    Headers,
    /// A rule refuses the list that it stands in.
    Rule,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Shape, Self::Name, Self::Cost, Self::Size, Self::Duplicate, Self::Headers, Self::Rule];

    /// The reason's word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shape => "shape",
            Self::Name => "name",
            Self::Cost => "cost",
            Self::Size => "size",
            Self::Duplicate => "duplicate",
            Self::Headers => "headers",
            Self::Rule => "rule",
        }
    }
}

/// An entry that is left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeftOut {
    /// The entry's name or URI, shortened; none where it has none.
    pub name: Option<SmolStr>,
    /// The reason as a word.
    pub reason: Reason,
    /// The reason in words for people.
    pub why: SmolStr,
}

/// A name as it is kept and told: what cannot be seen is not in it, nor what has the form of a secret, as servers choose their names.
#[must_use]
pub fn named(name: &str) -> SmolStr {
    let seen: String = name.chars().filter(|c| !c.is_control() && !is_hidden(*c)).take(LOOKED_AT).collect();
    without_secrets(&seen).chars().take(LONGEST_NAME).collect()
}

/// Logs what was not left out before.
pub fn log(server: &str, kind: Kind, before: &[LeftOut], now: &[LeftOut]) {
    let before: HashSet<&LeftOut> = before.iter().collect();
    let mut news = now.iter().filter(|left| !before.contains(left));
    for left in news.by_ref().take(MOST_LOGGED) {
        let name = left.name.as_deref().unwrap_or("without a name");
        tracing::warn!(server, name, "a {} is not offered: {}", kind.word(), without_secrets(&left.why));
    }
    let more = news.count();
    if more > 0 {
        tracing::warn!(server, "{more} more of {} are not offered", kind.key());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_without_what_cannot_be_seen_and_without_secrets() {
        let token = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
        for (name, told) in [
            ("read_file", "read_file"),
            ("read\u{200b}_file\n", "read_file"),
            (token, "***"),
            ("ghp_\u{200b}0123456789abcdefghij\u{7}ABCDEFGHIJ012345", "***"),
            ("https://ada:pw@h.example/x?token=abc", "https://***@h.example/x?token=***"),
        ] {
            assert_eq!(named(name), told, "{name:?}");
        }
        // One that begins before the end of what is told is found whole.
        let told = named(&format!("{}/{token}", "x".repeat(LONGEST_NAME - 10)));
        assert!(told.ends_with("x/***"), "{told}");
        assert_eq!(named(&"x".repeat(300)).len(), LONGEST_NAME);
    }
}
