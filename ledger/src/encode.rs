//! Events to lines of JSON, each written once; file and database get the same bytes.

use crate::{Event, MAX_EVENT_BYTES, event::millis, ids::Ids};
use gnomon_observe::{Field, FieldRef, Lookup, Observation, SCHEMA_VERSION, Value};
use smol_str::SmolStr;
use std::{cell::RefCell, fmt::Write, time::SystemTime};
use time::OffsetDateTime;
use uuid::Uuid;

/// The batch stops growing at this many bytes, so that one transaction stays small beside the
/// database's size bound.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// … and at this many events.
const MAX_BATCH_EVENTS: usize = 4096;

/// In an event that is too long, texts are cut to this many bytes …
const CUT_TEXT: usize = 512;
/// … and lists to this many entries of [`CUT_ENTRY`] bytes.
const CUT_LIST: usize = 8;
const CUT_ENTRY: usize = 128;
/// … and headers to this many.
const CUT_MEMBERS: usize = 64;

/// Some events and their lines, in the same order.
pub(crate) struct Batch<'a> {
    pub(crate) events: &'a [Event],
    /// All lines, each ended by a line feed.
    pub(crate) text: &'a str,
    /// Where each line ends, its line feed included.
    ends: &'a [usize],
}

impl<'a> Batch<'a> {
    /// The line of event `n`, without its line feed; empty if there is none.
    pub(crate) fn line(&self, n: usize) -> &'a str {
        let start = n.checked_sub(1).and_then(|p| self.ends.get(p)).copied().unwrap_or(0);
        let end = self.ends.get(n).map_or(start, |end| end - 1);
        self.text.get(start..end).unwrap_or_default()
    }
}

/// Puts events' lines into batches; its buffers are used again and again.
#[derive(Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// What one call of [`Encoder::encode`] made.
pub(crate) struct Encoded<'a, 'e> {
    pub(crate) batch: Batch<'a>,
    /// The events that did not fit into the batch.
    pub(crate) rest: &'e mut [Event],
    /// Events of the batch's stretch that cannot be written: too large even when shortened.
    pub(crate) too_large: u64,
}

impl Encoder {
    /// Takes a stretch from the front of `events`.
    pub(crate) fn encode<'a, 'e: 'a>(&'a mut self, events: &'e mut [Event]) -> Encoded<'a, 'e> {
        self.bytes.clear();
        self.ends.clear();
        let mut too_large = 0;
        let mut taken = 0;
        // Events that cannot be written are swapped behind those that can: `kept` grows behind `taken`.
        let mut kept = 0;
        while taken < events.len() && kept < MAX_BATCH_EVENTS && self.bytes.len() < MAX_BATCH_BYTES {
            if self.write_line(&events[taken]) {
                events.swap(kept, taken);
                kept += 1;
            } else {
                too_large += 1;
            }
            taken += 1;
        }
        let (stretch, rest) = events.split_at_mut(taken);
        // Events are written as UTF-8 only; were it not so, the batch would be empty lines, not a panic.
        let text = std::str::from_utf8(&self.bytes).unwrap_or_default();
        Encoded { batch: Batch { events: &stretch[..kept], text, ends: &self.ends }, rest, too_large }
    }

    fn write_line(&mut self, event: &Event) -> bool {
        if event.line.is_empty() {
            return false;
        }
        self.bytes.extend_from_slice(&event.line);
        self.bytes.push(b'\n');
        self.ends.push(self.bytes.len());
        true
    }
}

thread_local! {
    static STAMPS: RefCell<(Ids, Clock)> = RefCell::default();
}

/// Room for an ordinary event's line.
const LINE_BYTES: usize = 2048;

/// Fills in what is absent and writes the event's line; shortened if it is too long, empty if that
/// does not help.
pub(crate) fn line(seen: &mut Observation, at_ms: i64) -> Vec<u8> {
    STAMPS.with_borrow_mut(|(ids, clock)| {
        if seen.get(Field::Timestamp) == Lookup::Absent {
            seen.set(Field::Timestamp, clock.rfc3339(at_ms));
        }
        if seen.get(Field::EventId) == Lookup::Absent {
            let mut text = Uuid::encode_buffer();
            seen.set(Field::EventId, SmolStr::new(ids.next(at_ms).as_hyphenated().encode_lower(&mut text)));
        }
    });
    if seen.get(Field::EventKind) == Lookup::Absent {
        seen.set(Field::EventKind, "event");
    }
    seen.set(Field::Schema, SCHEMA_VERSION);
    let mut line = Vec::with_capacity(LINE_BYTES);
    seen.write_json(&mut line);
    if line.len() > MAX_EVENT_BYTES {
        *seen = shortened(seen);
        line.clear();
        seen.write_json(&mut line);
        if line.len() > MAX_EVENT_BYTES {
            line.clear();
        }
    }
    line
}

/// A copy whose texts and lists are cut, and which says so.
fn shortened(seen: &Observation) -> Observation {
    let mut short = Observation::new();
    let mut members = 0;
    for (field, value) in seen.values() {
        let value = cut(value);
        match field {
            FieldRef::Field(field) => short.set(field, value),
            FieldRef::Member(family, name) if members < CUT_MEMBERS => {
                members += 1;
                short.set_member(family, cut_text(&name, CUT_ENTRY), value);
            }
            FieldRef::Member(..) => {}
        }
    }
    let mut truncated = match seen.get(Field::Truncated) {
        Lookup::Value(Value::List(list)) => list.iter().take(CUT_LIST).map(|t| cut_text(t, CUT_ENTRY)).collect(),
        _ => Vec::new(),
    };
    truncated.push("event".into());
    short.set(Field::Truncated, truncated);
    short
}

fn cut(value: &Value) -> Value {
    match value {
        Value::Str(text) => Value::Str(cut_text(text, CUT_TEXT)),
        Value::List(list) => Value::List(list.iter().take(CUT_LIST).map(|text| cut_text(text, CUT_ENTRY)).collect()),
        other => other.clone(),
    }
}

fn cut_text(text: &SmolStr, bytes: usize) -> SmolStr {
    if text.len() <= bytes { text.clone() } else { SmolStr::new(&text[..text.floor_char_boundary(bytes)]) }
}

/// Times as text. Events come many to the second, so the part down to the second is kept.
#[derive(Default)]
struct Clock {
    second: Option<i64>,
    prefix: String,
}

impl Clock {
    /// RFC 3339 with milliseconds, UTC.
    fn rfc3339(&mut self, at_ms: i64) -> SmolStr {
        let second = at_ms.div_euclid(1000);
        if self.second != Some(second) {
            let date = OffsetDateTime::from_unix_timestamp(second).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            self.prefix.clear();
            let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
            let (hour, minute, sec) = date.to_hms();
            // Writing to a String cannot fail.
            let _ = write!(self.prefix, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{sec:02}");
            self.second = Some(second);
        }
        smol_str::format_smolstr!("{}.{:03}Z", self.prefix, at_ms.rem_euclid(1000))
    }
}

/// Now, as the ledger counts time.
pub(crate) fn now_ms() -> i64 {
    millis(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_observe::Family;
    use std::time::{Duration, UNIX_EPOCH};

    fn encode_one(seen: Observation) -> serde_json::Value {
        let mut encoder = Encoder::default();
        let mut events = [Event::at(seen, UNIX_EPOCH + Duration::from_millis(1_795_165_200_007))];
        let encoded = encoder.encode(&mut events);
        assert_eq!((encoded.too_large, encoded.rest.len()), (0, 0));
        serde_json::from_str(encoded.batch.line(0)).unwrap()
    }

    #[test]
    fn what_is_absent_is_filled_in_and_what_is_there_stays() {
        let json = encode_one(Observation::new());
        assert_eq!(json["@timestamp"], "2026-11-20T09:00:00.007Z");
        assert_eq!(json["event.kind"], "event");
        assert_eq!(json["gnomon.schema"], 1);
        assert_eq!(json["event.id"].as_str().unwrap().len(), 36);

        let mut seen = Observation::new();
        seen.set(Field::EventId, "mine");
        seen.set(Field::EventKind, "alert");
        seen.set(Field::Timestamp, "2020-01-01T00:00:00.000Z");
        let json = encode_one(seen);
        assert_eq!((&json["event.id"], &json["event.kind"]), (&"mine".into(), &"alert".into()));
        assert_eq!(json["@timestamp"], "2020-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_verbose_event_is_shortened_and_says_so() {
        let mut seen = Observation::new();
        seen.set(Field::ServerAddress, "mcp.example.com");
        seen.set(Field::UrlPath, "/ü".repeat(MAX_EVENT_BYTES));
        seen.set(Field::Tools, vec![SmolStr::from("x".repeat(1000)); 512]);
        for n in 0..200 {
            seen.set_member(Family::RequestHeader, format!("x-{n}"), "\u{1}".repeat(4000));
        }
        let json = encode_one(seen);
        assert_eq!(json["gnomon.truncated"], serde_json::json!(["event"]));
        assert_eq!(json["server.address"], "mcp.example.com");
        assert!(json["url.path"].as_str().unwrap().len() <= CUT_TEXT);
    }

    #[test]
    fn lines_and_events_keep_their_order_across_batches() {
        let mut encoder = Encoder::default();
        let mut events: Vec<Event> = (0..MAX_BATCH_EVENTS as i64 + 3)
            .map(|n| {
                let mut seen = Observation::new();
                seen.set(Field::Pid, n);
                Event::at(seen, UNIX_EPOCH)
            })
            .collect();
        let mut rest: &mut [Event] = &mut events;
        let mut next = 0;
        while !rest.is_empty() {
            let encoded = encoder.encode(rest);
            assert_eq!(encoded.batch.text.lines().count(), encoded.batch.events.len());
            for n in 0..encoded.batch.events.len() {
                let json: serde_json::Value = serde_json::from_str(encoded.batch.line(n)).unwrap();
                assert_eq!(json["process.pid"], next);
                next += 1;
            }
            let done = encoded.batch.events.len();
            rest = &mut rest[done..];
        }
        assert_eq!(next, MAX_BATCH_EVENTS as i64 + 3);
    }
}
