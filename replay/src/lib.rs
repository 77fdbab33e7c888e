//! Judging recordings by the code that judges live traffic.
//!
//! A recording is read one entry at a time and never kept: a HAR as a stream of its entries, an
//! event log line by line, a packet capture connection by connection. What differs from live traffic is what a recording cannot hold, and the
//! summary says it.
#![deny(missing_docs)]

pub mod compare;
mod drive;
mod entry;
mod events;
mod har;
mod har_entry;
mod metered;
mod pcap;
mod summary;

pub use summary::Summary;

use anyhow::Result;
use gnomon_cli::Complaint;
use gnomon_inspect::{HostPatterns, Inspector, Sighting};
use gnomon_observe::{Field, Observation};
use gnomon_record::Finisher;
use metered::Metered;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The bytes of a file that are read to detect its kind.
const PEEK: usize = 4096;

/// A replay: the judge's inputs, and the results.
pub struct Replay<'a> {
    /// The judge.
    pub inspector: &'a Arc<Inspector>,
    /// Hosts that are never opened.
    pub bypass: HostPatterns,
    /// Makes events of what is reported.
    pub finisher: Finisher,
    /// The totals.
    pub summary: Summary,
    /// Takes each event; an error ends the replay.
    pub emit: &'a mut dyn FnMut(&Observation) -> Result<()>,
}

/// The place and time at which an entry was recorded.
#[derive(Clone, Copy)]
pub struct Recorded<'a> {
    /// The file, as it was named.
    pub file: &'a str,
    /// From 0.
    pub index: u64,
    /// When it began.
    pub when: SystemTime,
    /// Its duration, if that was recorded.
    pub duration: Option<Duration>,
}

/// The kinds of recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RecordingKind {
    Har,
    Events,
    Capture,
}

impl Replay<'_> {
    /// Judges one recording; `-` is standard input. The kind is detected by its first bytes.
    ///
    /// # Errors
    /// When it cannot be read, or is neither a HAR nor events nor a capture. Entries that cannot be judged are no
    /// error; the summary counts them.
    pub fn file(&mut self, path: &Path) -> Result<()> {
        let name = path.display().to_string();
        let input: Box<dyn Read> = if name == "-" {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(path).map_err(|error| Complaint::input(format!("cannot read {name}: {error}")))?)
        };
        let (meter, budget) = Metered::new(input, har::MAX_ENTRY);
        let mut reader = BufReader::with_capacity(64 << 10, meter);
        match kind_of(&mut reader).map_err(|error| Complaint::input(format!("cannot read {name}: {error}")))? {
            RecordingKind::Har => har::replay(self, &name, reader, &budget),
            RecordingKind::Events => events::replay(self, &name, reader, &budget),
            RecordingKind::Capture => pcap::replay(self, &name, reader, &budget),
        }
    }

    /// Finishes, counts and emits the reports of one entry.
    fn report(&mut self, entry: Recorded<'_>, sightings: Vec<Sighting>) -> Result<()> {
        self.summary.count(&sightings, self.inspector);
        for mut event in self.finisher.finish(sightings, entry.when, entry.duration) {
            event.set(Field::Vantage, "replay");
            event.set(Field::ReplayFile, entry.file);
            event.set(Field::ReplayIndex, entry.index);
            (self.emit)(&event)?;
        }
        Ok(())
    }
}

/// Tells the kind by the first key, and skips a byte order mark. What is neither is taken for a
/// HAR, whose reader then says what is missing.
fn kind_of(reader: &mut impl BufRead) -> io::Result<RecordingKind> {
    // One read may give less than is there, but never nothing before the end.
    let start = reader.fill_buf()?;
    if pcap::is_capture(start) {
        return Ok(RecordingKind::Capture);
    }
    let mark = start.starts_with(b"\xef\xbb\xbf");
    let text = String::from_utf8_lossy(&start[..start.len().min(PEEK)]).into_owned();
    if mark {
        reader.consume(3);
    }
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.is_empty() {
        return Ok(RecordingKind::Events);
    }
    let key = text.strip_prefix('{').and_then(|rest| rest.trim_start().strip_prefix('"')).and_then(|rest| rest.split('"').next());
    match key {
        Some(key) if key != "log" && key.parse::<gnomon_observe::FieldRef>().is_ok() => Ok(RecordingKind::Events),
        _ => Ok(RecordingKind::Har),
    }
}

#[cfg(test)]
mod tests;
