//! Events that are written together: their lines one behind the other, the columns beside them, and
//! what they change in the inventory. The recording thread adds its events; the writer neither allocates nor frees anything, and the file
//! gets the lines without another copy.

use crate::{Deltas, Once};
use gnomon_observe::{Field, Lookup, Observation, Value};
use smol_str::SmolStr;

/// A group takes no more events once its lines have this many bytes, so that one transaction stays
/// small beside the database's size bound …
pub const MAX_GROUP_BYTES: usize = 2 << 20;
/// … or once it has this many events.
pub const MAX_GROUP_EVENTS: usize = 4096;

/// The columns of one event.
#[derive(Debug)]
pub struct Row {
    /// The end of its line in the text, line feed included.
    end: usize,
    /// The time of the event, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// `event.kind`.
    pub kind: SmolStr,
    /// `rule.id`.
    pub rule: Option<SmolStr>,
    /// `server.address`.
    pub server: Option<SmolStr>,
    /// `user.name`.
    pub user: Option<SmolStr>,
}

/// Some events, in the order in which they were recorded.
#[derive(Debug, Default)]
pub struct Group {
    text: Vec<u8>,
    rows: Vec<Row>,
    deltas: Deltas,
}

impl Group {
    /// Adds an event; `line` is its line with the line feed. `calls` are those of the groups before.
    pub fn push(&mut self, calls: &mut Once, seen: &Observation, at_ms: i64, line: &[u8]) {
        self.deltas.add(self.rows.len(), seen, at_ms, calls);
        self.text.extend_from_slice(line);
        let text = |field| match seen.get(field) {
            Lookup::Value(Value::Str(text)) => Some(text.clone()),
            _ => None,
        };
        self.rows.push(Row {
            end: self.text.len(),
            at_ms,
            kind: text(Field::EventKind).unwrap_or(SmolStr::new_static("event")),
            rule: text(Field::RuleId),
            server: text(Field::ServerAddress),
            user: text(Field::UserName),
        });
    }

    /// The columns of its events, in order.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The changes of its events besides adding rows.
    #[must_use]
    pub fn deltas(&self) -> &Deltas {
        &self.deltas
    }

    /// True if it has no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// True if it takes no more events.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.text.len() >= MAX_GROUP_BYTES || self.rows.len() >= MAX_GROUP_EVENTS
    }

    /// The length of its lines together, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// All lines, each ended by a line feed.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        &self.text
    }

    /// The line of event `n`, without its line feed; empty if there is none.
    #[must_use]
    pub fn line(&self, n: usize) -> &str {
        let start = n.checked_sub(1).and_then(|p| self.rows.get(p)).map_or(0, |row| row.end);
        let end = self.rows.get(n).map_or(start, |row| row.end - 1);
        // Lines are written as UTF-8 only; were it not so, the row would be empty, not a panic.
        self.text.get(start..end).and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default()
    }

    /// Empties it for further use; what an ordinary group needs stays allocated.
    pub fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(2 * MAX_GROUP_BYTES);
        self.rows.clear();
        self.deltas = Deltas::default();
    }
}
