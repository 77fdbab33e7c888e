//! Filters of events, and the rows they give.

use crate::Condition;
use serde::Serialize;

/// The longest page of events.
pub const MAX_PAGE: usize = 10_000;

/// A filter of events. The default is all of them, a page of 1,000.
#[derive(Clone, Debug)]
pub struct EventFilter {
    /// The earliest time, milliseconds since the Unix epoch.
    pub since_ms: Option<i64>,
    /// Before this moment, likewise.
    pub until_ms: Option<i64>,
    /// Conditions on fields; all must hold.
    pub conditions: Vec<Condition>,
    /// This rule, by id or name, must have matched.
    pub rule: Option<String>,
    /// `event.kind` must be one of these; none means any.
    pub kinds: Vec<String>,
    /// The page starts behind this event, in the order asked for: its `seq` is the last page's last.
    pub after: Option<i64>,
    /// At most this many, at most [`MAX_PAGE`].
    pub limit: usize,
}

impl Default for EventFilter {
    fn default() -> Self {
        Self { since_ms: None, until_ms: None, conditions: Vec::new(), rule: None, kinds: Vec::new(), after: None, limit: 1_000 }
    }
}

/// The order of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// In the order of recording.
    #[default]
    OldestFirst,
    /// Newest events first.
    NewestFirst,
}

/// A stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its number: rises with every event, never used twice.
    pub seq: i64,
    /// The time of the event, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Its line of JSON, the same bytes as in the JSON-lines file.
    pub json: String,
}

/// An incident: detections of one client, server and rule that followed each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IncidentRecord {
    /// `gnomon.incident.id`.
    pub id: String,
    /// The rule's id.
    pub rule: String,
    /// The rule's title.
    pub rule_name: Option<String>,
    /// The rule's level.
    pub level: Option<String>,
    /// The action taken the first time.
    pub action: Option<String>,
    /// The client's name, else its program, else its `User-Agent`.
    pub client: Option<String>,
    /// The server's address.
    pub server: Option<String>,
    /// First detection, milliseconds since the Unix epoch.
    pub first_seen_ms: i64,
    /// Last detection, likewise.
    pub last_seen_ms: i64,
    /// The number of detections.
    pub events: u64,
    /// `seq` of the first.
    pub first_seq: i64,
    /// `seq` of the last.
    pub last_seq: i64,
}
