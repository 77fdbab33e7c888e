//! Events to lines of JSON, each written once; file and database get the same bytes.

use crate::ids::Ids;
use gnomon_observe::{Field, FieldRef, Lookup, Observation, SCHEMA_VERSION, Value};
use smol_str::SmolStr;
use std::{cell::RefCell, fmt::Write, sync::LazyLock};
use time::OffsetDateTime;
use uuid::Uuid;

/// The longest event line in bytes. Longer events are shortened (long texts and lists are cut and
/// `gnomon.truncated` says `event`) rather than dropped, so that no client can hide by being verbose.
pub const MAX_EVENT_BYTES: usize = 256 << 10;

/// In an event that is too long, texts are cut to this many bytes …
const CUT_TEXT: usize = 512;
/// … and lists to this many entries of [`CUT_ENTRY`] bytes.
const CUT_LIST: usize = 8;
const CUT_ENTRY: usize = 128;
/// … and headers to this many.
const CUT_MEMBERS: usize = 64;

#[derive(Default)]
struct Scratch {
    ids: Ids,
    clock: Clock,
    line: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The capacity that a thread's line buffer keeps after a long event.
const SCRATCH_BYTES: usize = 16 << 10;

/// Fills in what is absent, writes the event's line with its line feed and hands it to `take`.
/// An event that is too long is shortened; `None` if that does not help.
///
/// The thread that makes an event has it in its cache: another one would spend more on fetching it than on
/// writing it (`cargo xtask bench intercept`, load ka32-mcp).
pub(crate) fn with_line<T>(seen: &mut Observation, at_ms: i64, take: impl FnOnce(&Observation, &[u8]) -> T) -> Option<T> {
    SCRATCH.with_borrow_mut(|Scratch { ids, clock, line }| {
        if seen.get(Field::Timestamp) == Lookup::Absent {
            seen.set(Field::Timestamp, clock.rfc3339(at_ms));
        }
        if seen.get(Field::EventId) == Lookup::Absent {
            let mut text = Uuid::encode_buffer();
            seen.set(Field::EventId, SmolStr::new(ids.next(at_ms).as_hyphenated().encode_lower(&mut text)));
        }
        if seen.get(Field::EventKind) == Lookup::Absent {
            seen.set(Field::EventKind, "event");
        }
        seen.set(Field::Schema, SCHEMA_VERSION);
        if seen.get(Field::HostName) == Lookup::Absent {
            seen.set(Field::HostName, this_host());
        }
        line.clear();
        seen.write_json(line);
        if line.len() > MAX_EVENT_BYTES {
            *seen = shortened(seen);
            line.clear();
            seen.write_json(line);
        }
        let taken = (line.len() <= MAX_EVENT_BYTES).then(|| {
            line.push(b'\n');
            take(seen, line)
        });
        line.clear();
        line.shrink_to(SCRATCH_BYTES);
        taken
    })
}

/// The name of this host, as it was when gnomon was started: `host.name`.
#[must_use]
pub fn this_host() -> SmolStr {
    static NAME: LazyLock<SmolStr> = LazyLock::new(|| rustix::system::uname().nodename().to_string_lossy().into());
    NAME.clone()
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

/// A moment, milliseconds since the Unix epoch, as events have it: RFC 3339 with milliseconds, UTC.
#[must_use]
pub fn moment(at_ms: i64) -> SmolStr {
    Clock::default().rfc3339(at_ms)
}

/// Times as text. Events come many to the second and several to the millisecond, so both are kept.
#[derive(Default)]
struct Clock {
    second: Option<i64>,
    prefix: String,
    last: Option<(i64, SmolStr)>,
}

impl Clock {
    /// RFC 3339 with milliseconds, UTC.
    fn rfc3339(&mut self, at_ms: i64) -> SmolStr {
        if let Some((last_ms, text)) = &self.last
            && *last_ms == at_ms
        {
            return text.clone();
        }
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
        let text = smol_str::format_smolstr!("{}.{:03}Z", self.prefix, at_ms.rem_euclid(1000));
        self.last = Some((at_ms, text.clone()));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_observe::Family;

    fn encode_one(mut seen: Observation) -> serde_json::Value {
        let line = with_line(&mut seen, 1_795_165_200_007, |_, line| line.to_vec()).unwrap();
        assert_eq!(line.last(), Some(&b'\n'));
        serde_json::from_slice(&line).unwrap()
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
}
