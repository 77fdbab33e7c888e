//! What was not written, until an event says so: each loss is told once, as soon as something can be written again, by this process or the
//! next. So the count stands in a small file that was made while there was room, and is written over in place: a full disk has room for that.

use crate::{DropCounts, DropReason};
use gnomon_ledger_model::moment;
use gnomon_observe::{Action, Class, Field, Observation};
use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

/// The smallest piece that a disk writes whole, bytes.
const BLOCK: usize = 512;

/// Events that were lost, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lost {
    by: [u64; DropReason::ALL.len()],
    /// When, milliseconds since the Unix epoch: the first and the last, as far as is known.
    from_ms: i64,
    until_ms: i64,
}

/// The losses that nobody was told of.
#[derive(Debug)]
pub(crate) struct Losses {
    file: Option<File>,
    /// What was counted of this process's losses.
    counted: DropCounts,
    untold: Lost,
    /// Told by an event that is not known to be durable.
    being_told: Lost,
    /// What stands in the file.
    kept: Lost,
}

impl Losses {
    /// Opens the file, or makes it (mode 0640), with what an earlier process lost. Where it cannot be used, losses are told while this one runs.
    pub(crate) fn open(path: &Path) -> Self {
        let (file, untold) = match open(path) {
            Ok((file, lost)) => (Some(file), lost),
            Err(error) => {
                tracing::warn!("lost events cannot be counted over restarts in {}: {error}", path.display());
                (None, Lost::default())
            }
        };
        Self { file, counted: DropCounts::default(), untold, being_told: Lost::default(), kept: untold }
    }

    /// True if there are losses that nobody was told of.
    pub(crate) fn is_due(&self) -> bool {
        self.untold.events() > 0
    }

    /// Takes note of the losses of this process so far. Events whose line is missing are in the database all the same.
    pub(crate) fn count(&mut self, all: DropCounts, now_ms: i64) {
        let mut more = Lost { by: <_>::default(), from_ms: now_ms, until_ms: now_ms };
        for (slot, (reason, events)) in more.by.iter_mut().zip(all.iter()) {
            *slot = if reason == DropReason::JsonlFailed { 0 } else { events.saturating_sub(self.counted.of(reason)) };
        }
        self.counted = all;
        self.untold.add(&more);
        self.keep();
    }

    /// The event that tells of them; nobody is told again.
    pub(crate) fn tell(&mut self) -> Observation {
        let lost = std::mem::take(&mut self.untold);
        self.being_told.add(&lost);
        let (count, reasons, from, until) = (lost.events(), lost.reasons(), moment(lost.from_ms), moment(lost.until_ms));
        let mut seen = Observation::new();
        seen.set(Field::Health, "events_lost");
        seen.set(Field::Action, Action::Log.as_str());
        seen.set(Field::DetectionClass, Class::Health.as_str());
        seen.set(Field::Message, format!("{count} events from {from} to {until} could not be written and are lost ({reasons})"));
        seen
    }

    /// What came after was written, so what was told is durable.
    pub(crate) fn is_told(&mut self) {
        self.being_told = Lost::default();
        self.keep();
    }

    /// Nobody took the event.
    pub(crate) fn is_not_told(&mut self) {
        let lost = std::mem::take(&mut self.being_told);
        self.untold.add(&lost);
    }

    fn keep(&mut self) {
        let mut now = self.being_told;
        now.add(&self.untold);
        if now == self.kept {
            return;
        }
        self.kept = now;
        // Who loses events has an error in the log already.
        let _ = self.file.as_ref().map(|file| file.write_all_at(&now.written(), 0));
    }
}

impl Drop for Losses {
    fn drop(&mut self) {
        let _ = self.file.as_ref().map(File::sync_data);
    }
}

impl Lost {
    fn events(&self) -> u64 {
        self.by.iter().sum()
    }

    fn add(&mut self, more: &Self) {
        if more.events() == 0 {
            return;
        }
        if self.events() == 0 {
            self.from_ms = more.from_ms;
            self.until_ms = more.until_ms;
        }
        (self.from_ms, self.until_ms) = (self.from_ms.min(more.from_ms), self.until_ms.max(more.until_ms));
        self.by.iter_mut().zip(more.by).for_each(|(all, more)| *all = all.saturating_add(more));
    }

    fn reasons(&self) -> String {
        let each = DropReason::ALL.into_iter().zip(self.by).filter(|(_, events)| *events > 0);
        each.map(|(reason, events)| format!("{} {events}", reason.as_str())).collect::<Vec<_>>().join(", ")
    }

    fn written(&self) -> Vec<u8> {
        let mut text = format!("1 {} {}", self.from_ms, self.until_ms);
        for (reason, events) in DropReason::ALL.into_iter().zip(self.by) {
            // Formatting a String cannot fail.
            let _ = write!(text, " {}={events}", reason.as_str());
        }
        text.push('\n');
        let mut bytes = text.into_bytes();
        bytes.resize(BLOCK, b' ');
        bytes
    }

    /// Reads what [`Lost::written`] wrote, words that it does not know left out; none if it is something else.
    fn read(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let (Some("1"), Some(from), Some(until)) = (words.next(), words.next(), words.next()) else { return None };
        let mut lost = Self { by: <_>::default(), from_ms: from.parse().ok()?, until_ms: until.parse().ok()? };
        for (reason, events) in words.filter_map(|word| word.split_once('=')) {
            if let Some(known) = DropReason::ALL.into_iter().find(|known| known.as_str() == reason) {
                lost.by[known as usize] = events.parse().ok()?;
            }
        }
        Some(lost)
    }
}

fn open(path: &Path) -> io::Result<(File, Lost)> {
    // A file of another type in its place must not block.
    let flags = libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut text = [0; BLOCK];
    match file.read_exact_at(&mut text, 0) {
        Ok(()) => Ok((file, std::str::from_utf8(&text).ok().and_then(Lost::read).unwrap_or_default())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            // The room for it, while there is some.
            let _ = file.write_all_at(&Lost::default().written(), 0).and_then(|()| file.sync_data());
            Ok((file, Lost::default()))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_what_is_not_ours_is_nothing() {
        let mut lost = Lost { from_ms: 5, until_ms: 9, ..Lost::default() };
        lost.by[DropReason::DatabaseFailed as usize] = u64::MAX;
        lost.by[DropReason::QueueFull as usize] = 3;
        let written = lost.written();
        assert_eq!((written.len(), Lost::read(std::str::from_utf8(&written).unwrap())), (BLOCK, Some(lost)));
        for other in ["", "2 5 9", "1 x 9", "1 5 9 queue_full=x"] {
            assert_eq!(Lost::read(other), None, "{other}");
        }
        assert_eq!(Lost::read("1 5 9 unknown=7").map(|lost| lost.events()), Some(0));
    }
}
