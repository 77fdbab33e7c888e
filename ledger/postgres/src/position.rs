//! The position up to which a journal was read, and the check that it still begins with what was read.
//!
//! A restored backup, a standby that lacked entries, or tables that were made anew look like a journal that lives on: numbers that
//! were used are used again. So a journal has an id, drawn with its tables, and each entry a mark, drawn as it is put. Who finds the mark
//! of the last entry that it read under its number finds all entries before it too: marks leave a database only in a copy of it.

use crate::PostgresUrl;
use thiserror::Error;

/// How far a journal was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The journal, by its id.
    pub journal: String,
    /// The number of the newest entry, 0 before the first.
    pub number: i64,
    /// The mark of that entry.
    pub mark: Option<String>,
}

/// A server that follows another and takes no writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standby {
    /// The URL, without its password.
    pub at: String,
    /// The moment of the newest change that it has, milliseconds since the Unix epoch.
    pub changed_ms: i64,
}

/// The contents of a journal up to an entry, to detect a journal that lacks earlier entries, or has them changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The number of entries.
    pub entries: i64,
    /// The first 128 bits of a SHA-256 over all of them, 32 hexadecimal digits.
    pub digest: String,
}

impl Contents {
    /// How these entries up to `read` differ from those that were read; none where they are the same.
    pub(crate) fn contradicts(&self, read: &Self, upto: i64) -> Option<String> {
        if self == read {
            None
        } else if self.entries == read.entries {
            Some(format!("has an entry up to {upto} that is another than the one that was read, as where it was changed by hand"))
        } else {
            Some(format!(
                "has {} entries up to {upto}, of {} that were read, as where some were removed or not restored",
                self.entries, read.entries
            ))
        }
    }
}

/// The entries that were read are not the beginning of the journal that is there now.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the journal of decisions in {at} {how}")]
pub struct Contradicted {
    /// The URL, without its password.
    pub at: String,
    /// The difference.
    pub how: String,
}

/// The result of a look.
#[derive(Debug)]
pub(crate) struct Found {
    pub position: Position,
    /// The mark of the entry that was read last, if it is there.
    pub mark_then: Option<String>,
}

impl Found {
    /// How this differs from a journal that was read up to there; none where it goes on from it.
    pub fn contradicts(&self, read: &Position, url: &PostgresUrl) -> Option<Contradicted> {
        let Position { journal, number, .. } = &self.position;
        let how = if read.number == 0 || (*journal == read.journal && self.mark_then.is_some() && self.mark_then == read.mark) {
            return None;
        } else if *journal != read.journal {
            format!("is not the one that was read: its tables were made anew ({journal}, it was {})", read.journal)
        } else if *number < read.number {
            format!("went back from entry {} to entry {number}, as where a backup was restored", read.number)
        } else {
            format!("has another entry {} than the one that was read, as where a backup was restored and decided in", read.number)
        };
        Some(Contradicted { at: url.to_string(), how })
    }
}
