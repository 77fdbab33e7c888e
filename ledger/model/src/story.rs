//! One detection's story: the event, what else was seen of the same call, what became of it, and what the
//! same client did around it.
//!
//! Bounded in time and number: a story is read by a person. What belongs together by its names may
//! stand far apart in a busy ledger; [`Story::more`] says that there is more.

use crate::{MIN_ID_PREFIX, ReadError, ServerRecord, StoredEvent};
use serde_json::{Map, Value};

/// The time before the event, milliseconds, in which other events of the same client are part of its story.
pub const STORY_BEFORE_MS: i64 = 60_000;
/// The time after it, likewise.
pub const STORY_AFTER_MS: i64 = 600_000;
/// Most events on each side of it.
pub const STORY_EVENTS: usize = 50;

/// Events by their names.
#[derive(Debug, Clone)]
pub struct Story {
    /// The event itself.
    pub event: StoredEvent,
    /// Other events of the same call: another class of detection, another place where it was seen.
    pub sightings: Vec<StoredEvent>,
    /// The outcome of the call after its event was written, where that event could not tell.
    pub outcome: Option<StoredEvent>,
    /// Events of the same connection, session or process in the minute before.
    pub before: Vec<Related>,
    /// The same in the ten minutes after.
    pub after: Vec<Related>,
    /// `Yes` if there are more of these than [`STORY_EVENTS`].
    pub more: More,
    /// The server as the inventory knows it.
    pub server: Option<ServerRecord>,
}

/// Complete, or cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum More {
    /// The list is complete.
    #[default]
    No,
    /// The list is cut.
    Yes,
}

/// The tie between two events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The same connection (`gnomon.flow.id`).
    Flow,
    /// The same MCP session (`mcp.session.id` on one server).
    Session,
    /// The same process (`process.pid` and its program).
    Process,
}

impl Relation {
    /// The word for people and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Relation::Flow => "flow",
            Relation::Session => "session",
            Relation::Process => "process",
        }
    }
}

/// An event, and what ties it to the story's.
#[derive(Debug, Clone)]
pub struct Related {
    /// The tie; the closest one.
    pub relation: Relation,
    /// The event.
    pub event: StoredEvent,
}

/// The distance in event numbers within which others may belong to an event's story.
pub const NEAR_EVENTS: i64 = 50_000;
/// The distance in event numbers after a call within which its outcome may be.
pub const OUTCOME_EVENTS: i64 = 500_000;

/// The start of a UUID version 7, and the span of time in which ids begin so (RFC 9562 section 5.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPrefix {
    /// The prefix as ids are written: lower case, with hyphens.
    pub text: String,
    /// The first moment of an id that begins so, milliseconds since the Unix epoch.
    pub from_ms: i64,
    /// The last, likewise.
    pub to_ms: i64,
}

impl IdPrefix {
    /// Reads it, in either case, with hyphens or without.
    ///
    /// # Errors
    /// When it is shorter than [`MIN_ID_PREFIX`] or no part of an id.
    pub fn parse(text: &str) -> Result<Self, ReadError> {
        let digits: String = text.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
        if digits.len() < MIN_ID_PREFIX || digits.len() > 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ReadError::NotAnId { text: text.to_owned() });
        }
        let time = |fill: &str| {
            let padded: String = digits.chars().chain(fill.chars().cycle()).take(12).collect();
            i64::from_str_radix(&padded, 16).unwrap_or_default()
        };
        let mut written = String::with_capacity(36);
        for (place, digit) in digits.chars().enumerate() {
            if matches!(place, 8 | 12 | 16 | 20) {
                written.push('-');
            }
            written.push(digit);
        }
        Ok(Self { text: written, from_ms: time("0"), to_ms: time("f") })
    }
}

/// The names by which events belong together.
#[derive(Debug, Default)]
pub struct Names {
    /// `gnomon.observation.id`.
    pub call: Option<String>,
    /// `gnomon.flow.id`.
    pub flow: Option<String>,
    /// `mcp.session.id`.
    pub session: Option<String>,
    /// `server.address`.
    pub server: Option<String>,
    /// `server.port`.
    pub port: Option<i64>,
    /// `process.pid`.
    pub pid: Option<i64>,
    /// `process.executable.path`.
    pub program: Option<String>,
}

impl Names {
    /// The names in an event's line; none if it is not an event.
    #[must_use]
    pub fn of(json: &str) -> Self {
        let Ok(event) = serde_json::from_str::<Map<String, Value>>(json) else { return Self::default() };
        let text = |name: &str| event.get(name).and_then(Value::as_str).map(str::to_owned);
        Self {
            call: text("gnomon.observation.id"),
            flow: text("gnomon.flow.id"),
            session: text("mcp.session.id"),
            server: text("server.address"),
            port: event.get("server.port").and_then(Value::as_i64),
            pid: event.get("process.pid").and_then(Value::as_i64),
            program: text("process.executable.path"),
        }
    }

    pub(crate) fn is_same_call(&self, other: &Self) -> bool {
        self.call.is_some() && self.call == other.call
    }

    /// The closest tie to another.
    pub(crate) fn relation(&self, other: &Self) -> Option<Relation> {
        if self.flow.is_some() && self.flow == other.flow {
            Some(Relation::Flow)
        } else if self.session.is_some() && (&self.session, &self.server, self.port) == (&other.session, &other.server, other.port) {
            Some(Relation::Session)
        } else if self.pid.is_some() && (self.pid, &self.program) == (other.pid, &other.program) {
            Some(Relation::Process)
        } else {
            None
        }
    }
}

/// The neighbours of an event.
#[derive(Default)]
pub(crate) struct Around {
    pub(crate) sightings: Vec<StoredEvent>,
    pub(crate) before: Vec<Related>,
    pub(crate) after: Vec<Related>,
    pub(crate) more: More,
}

impl Around {
    /// The limit of [`crate::Read::near`].
    pub(crate) const LIMIT: usize = 4 * STORY_EVENTS;

    /// Sorts the events near one into those of its call and those of its client, by their moments: what lasts, as the stream on which a client
    /// listens, is written at its end.
    pub(crate) fn of(event: &StoredEvent, names: &Names, near: Vec<StoredEvent>) -> Self {
        let mut around = Self::default();
        if near.len() >= Self::LIMIT {
            around.more = More::Yes;
        }
        for other in near {
            let others = Names::of(&other.json);
            if names.is_same_call(&others) {
                around.sightings.push(other);
            } else if let Some(relation) = names.relation(&others) {
                let when = |event: &StoredEvent| (event.at_ms, event.seq);
                let side = if when(&other) < when(event) { &mut around.before } else { &mut around.after };
                side.push(Related { relation, event: other });
            }
        }
        for side in [&mut around.before, &mut around.after] {
            side.sort_by_key(|related| (related.event.at_ms, related.event.seq));
        }
        // The nearest stay.
        let extra = around.before.len().saturating_sub(STORY_EVENTS);
        around.before.drain(..extra);
        if extra > 0 || around.after.len() > STORY_EVENTS {
            around.after.truncate(STORY_EVENTS);
            around.more = More::Yes;
        }
        around
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_an_id_says_when_it_was_made() {
        let whole = IdPrefix::parse("019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b11").unwrap();
        assert_eq!((whole.from_ms, whole.to_ms), (0x019a_9f3e_4b7c, 0x019a_9f3e_4b7c));
        assert_eq!(whole.text, "019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b11");
        let short = IdPrefix::parse("019A9F3E4").unwrap();
        assert_eq!(short.text, "019a9f3e-4");
        assert_eq!((short.from_ms, short.to_ms), (0x019a_9f3e_4000, 0x019a_9f3e_4fff));
        for bad in ["", "019a9f3", "019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b11f", "zzzzzzzz", "019a9f3e%"] {
            assert!(IdPrefix::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_began_before_an_event_and_was_written_after_it_comes_before_it() {
        let event = |seq: i64, at_ms: i64| StoredEvent { seq, at_ms, json: format!(r#"{{"gnomon.flow.id":"f","n":{seq}}}"#) };
        let call = event(3, 300);
        // 1 is the session's first request, 7 the stream on which the client listens since then, 4 the next call.
        let near = vec![event(1, 100), event(4, 400), event(7, 200), event(9, 300)];
        let around = Around::of(&call, &Names::of(&call.json), near);
        let seqs = |side: &[Related]| side.iter().map(|related| related.event.seq).collect::<Vec<_>>();
        assert_eq!((seqs(&around.before), seqs(&around.after)), (vec![1, 7], vec![9, 4]));
    }

    #[test]
    fn the_closest_tie_counts_and_what_is_absent_ties_nothing() {
        let names = |json: &str| Names::of(json);
        let one =
            names(r#"{"gnomon.flow.id":"f","mcp.session.id":"s","server.address":"a","process.pid":7,"process.executable.path":"/x"}"#);
        for (other, relation) in [
            (r#"{"gnomon.flow.id":"f","process.pid":7,"process.executable.path":"/x"}"#, Some(Relation::Flow)),
            (r#"{"mcp.session.id":"s","server.address":"a"}"#, Some(Relation::Session)),
            (r#"{"mcp.session.id":"s","server.address":"b"}"#, None),
            (r#"{"process.pid":7,"process.executable.path":"/x"}"#, Some(Relation::Process)),
            (r#"{"process.pid":7,"process.executable.path":"/y"}"#, None),
            ("{}", None),
            ("nonsense", None),
        ] {
            assert_eq!(one.relation(&names(other)), relation, "{other}");
        }
        assert_eq!(names("{}").relation(&names("{}")), None);
        assert!(!names("{}").is_same_call(&names("{}")));
    }
}
