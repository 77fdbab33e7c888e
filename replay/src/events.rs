//! gnomon's own events, judged again: what would today's rules have said?
//!
//! An event holds neither arguments nor bodies, so rules that ask for those cannot match; the
//! summary says so. A bad line is reported and skipped: a log that was cut off by a crash ends in half
//! a line.

use super::{Recorded, Replay, metered::Budget};
use anyhow::Result;
use gnomon_cli::when;
use gnomon_observe::{Field, Lookup, Observation};
use std::{
    collections::VecDeque,
    io::{BufRead, Read},
    time::{Duration, SystemTime},
};

/// Longest line, bytes; the ledger writes none longer than a quarter of it.
const MAX_LINE: u64 = 1 << 20;
/// The number of ids of calls that are remembered: a call with several detections is several lines, which
/// stand near each other.
const REMEMBERED: usize = 1024;

/// Judges every line.
pub fn replay(replay: &mut Replay<'_>, file: &str, mut reader: impl BufRead, budget: &Budget) -> Result<()> {
    let mut line = Vec::new();
    let mut recent: VecDeque<String> = VecDeque::with_capacity(REMEMBERED);
    let mut number: u64 = 0;
    let asks = replay.inspector.rules();
    if asks.wanted().body_text || asks.wanted().arguments != gnomon_engine::Arguments::Unwanted {
        replay.summary.remark(format!("{file}: events hold no arguments and no bodies, so rules that ask for those cannot match"));
    }
    loop {
        budget.renew();
        line.clear();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        match read {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) => {
                replay.summary.bad(format!("{file}:{}: {error}", number + 1));
                return Ok(());
            }
        }
        number += 1;
        if line.len() as u64 == MAX_LINE && !line.ends_with(b"\n") {
            skip_line(&mut reader, budget)?;
            replay.summary.bad(format!("{file}:{number}: the line is longer than {MAX_LINE} bytes; it was skipped"));
            continue;
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let index = replay.summary.entries_of(file);
        match read_event(text) {
            Err((column, cause)) => {
                replay.summary.bad(format!("{file}:{number}:{column}: not an event: {cause}; the line was skipped"));
            }
            // An outcome is not another call.
            Ok(event) if event.seen.text(Field::EventKind) == Some("outcome") => {}
            Ok(event) if event.call.as_ref().is_some_and(|call| recent.contains(call)) => {}
            Ok(event) => {
                if let Some(call) = event.call {
                    if recent.len() == REMEMBERED {
                        recent.pop_front();
                    }
                    recent.push_back(call);
                }
                replay.summary.entries += 1;
                let sightings = gnomon_inspect::judge_recorded(replay.inspector, event.seen);
                replay.report(Recorded { file, index, when: event.when, duration: event.duration }, sightings)?;
            }
        }
    }
}

/// The content of a line.
struct Event {
    seen: Observation,
    call: Option<String>,
    when: SystemTime,
    duration: Option<Duration>,
}

/// Reads a line; an error has its column.
fn read_event(text: &[u8]) -> Result<Event, (usize, String)> {
    let object: serde_json::Map<_, _> = serde_json::from_slice(text).map_err(|error| {
        let cause = error.to_string();
        (error.column().max(1), cause.split(" at line ").next().unwrap_or(&cause).to_owned())
    })?;
    let seen = Observation::from_json(&object).map_err(|error| (1, error.to_string()))?;
    let when = seen.text(Field::Timestamp).and_then(when::rfc3339).ok_or((1, "it has no `@timestamp`".to_owned()))?;
    let call = seen.text(Field::ObservationId).map(str::to_owned);
    let duration = match seen.get(Field::DurationMs) {
        Lookup::Value(value) => value.as_int().and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis),
        Lookup::Absent | Lookup::Unreadable => None,
    };
    Ok(Event { seen, call, when, duration })
}

fn skip_line(reader: &mut impl BufRead, budget: &Budget) -> std::io::Result<()> {
    loop {
        budget.renew();
        let available = reader.fill_buf()?;
        let (used, found) = match available.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (available.len(), available.is_empty()),
        };
        reader.consume(used);
        if found {
            return Ok(());
        }
    }
}
