//! HAR 1.2 (<http://www.softwareishard.com/blog/har-12-spec/>) as a stream of entries.
//!
//! The whole is one JSON document of any size, so it is walked (`log`, then `entries`) and each
//! entry is dropped before the next is read. Exporters leave out and add what they like: every
//! member may be missing or null, and unknown ones are skipped.

use super::{Recorded, Replay, drive, entry, har_entry::Entry, metered::Budget};
use anyhow::Result;
use gnomon_cli::{Complaint, when};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{
    fmt,
    io::Read,
    time::{Duration, SystemTime},
};

/// Longest entry, bytes of the file, bodies included.
pub const MAX_ENTRY: u64 = 64 << 20;

/// Judges every entry of a HAR.
pub fn replay(replay: &mut Replay<'_>, file: &str, reader: impl Read, budget: &Budget) -> Result<()> {
    let mut index = 0;
    let mut when = SystemTime::UNIX_EPOCH;
    // An error that is not the recording's must come back as itself.
    let mut failed = None;
    let mut each = |har: Entry| {
        budget.renew();
        // An entry without a time happened with the one before.
        when = har.started_date_time.as_deref().and_then(when::rfc3339).unwrap_or(when);
        let duration = har.time.filter(|ms| ms.is_finite() && *ms >= 0.0).map(|ms| Duration::from_millis(ms as u64));
        let recorded = Recorded { file, index, when, duration };
        index += 1;
        let judged = judge(replay, recorded, &har);
        judged.map_err(|error| failed = Some(error)).is_ok()
    };
    let mut json = serde_json::Deserializer::from_reader(reader);
    let read = Document(&mut each).deserialize(&mut json).and_then(|found| match found {
        // The rest of a file that is no HAR does not matter.
        Found::Nothing => Ok(found),
        Found::Entries => json.end().map(|()| found),
    });
    if let Some(error) = failed {
        return Err(error);
    }
    match read {
        Ok(Found::Entries) => Ok(()),
        Ok(Found::Nothing) => {
            Err(Complaint::input(format!("{file}:1:1: neither a HAR (no `log.entries`) nor gnomon's events")).next(NEXT).into())
        }
        Err(error) => {
            let cause = error.to_string();
            let cause = cause.split(" at line ").next().unwrap_or(&cause);
            let (line, column) = (error.line().max(1), error.column().max(1));
            Err(Complaint::input(format!("{file}:{line}:{column}: entry {index} cannot be read: {cause}; what stood before it was judged"))
                .next(NEXT)
                .into())
        }
    }
}

const NEXT: &str = "save the recording again as HAR 1.2 with content, or take the events of `gnomon events --json`";

fn judge(replay: &mut Replay<'_>, recorded: Recorded<'_>, har: &Entry) -> Result<()> {
    replay.summary.entries += 1;
    match entry::Exchange::read(har) {
        Err(reason) => {
            replay.summary.skip(recorded, reason.as_str());
            Ok(())
        }
        Ok(exchange) => {
            for note in exchange.notes() {
                replay.summary.note(recorded, note);
            }
            let sightings = drive::judge(replay.inspector, &replay.bypass, &exchange);
            replay.report(recorded, sightings)
        }
    }
}

/// Whether the document was a HAR at all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Entries,
}

/// Takes an entry; false ends the reading.
type Each<'a> = &'a mut dyn FnMut(Entry) -> bool;

/// The outermost object.
struct Document<'a>(Each<'a>);
/// The value of `log`.
struct Log<'a>(Each<'a>);
/// The value of `log.entries`.
struct Entries<'a>(Each<'a>);

macro_rules! walk_object {
    ($name:ident, $key:literal, $inner:ident, $expecting:literal) => {
        impl<'de> DeserializeSeed<'de> for $name<'_> {
            type Value = Found;
            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
                deserializer.deserialize_map(self)
            }
        }
        impl<'de> Visitor<'de> for $name<'_> {
            type Value = Found;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($expecting)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
                let mut found = Found::Nothing;
                while let Some(key) = map.next_key::<String>()? {
                    if key == $key && found == Found::Nothing {
                        found = map.next_value_seed($inner(&mut *self.0))?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(found)
            }
        }
    };
}

walk_object!(Document, "log", Log, "a HAR: an object with `log`");
walk_object!(Log, "entries", Entries, "the object `log` of a HAR");

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = Found;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = Found;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the list `log.entries` of a HAR")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Found, A::Error> {
        while let Some(entry) = list.next_element::<Entry>()? {
            if !(self.0)(entry) {
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(Found::Entries)
    }
}
