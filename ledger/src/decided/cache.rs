//! The saved copy of the shared journal, `decisions.cache`: a first line that says how far the journal was read and when, and a line
//! of JSON for each review. What holds on this host while the journal is away, or is not the one that was read.

use crate::Decision;
use gnomon_kit::unix_millis;
use gnomon_ledger_postgres::{Contents, Position};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// The length of the first line, so that it can be written anew in its place.
const HEAD: usize = 256;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    journal: String,
    number: i64,
    mark: Option<String>,
    as_of_ms: i64,
    /// The number of entries up to there; none where an earlier version wrote the file.
    entries: Option<i64>,
    digest: Option<String>,
}

impl Head {
    fn line(Position { journal, number, mark }: &Position, had: Option<&Contents>) -> io::Result<String> {
        let (entries, digest) = had.map(|had| (had.entries, had.digest.clone())).unzip();
        let as_of_ms = unix_millis(SystemTime::now());
        let head = Self { journal: journal.clone(), number: *number, mark: mark.clone(), as_of_ms, entries, digest };
        Ok(format!("{:<1$}\n", serde_json::to_string(&head)?, HEAD - 1))
    }

    fn read(line: &[u8]) -> Option<(Position, Option<Contents>, SystemTime)> {
        let Self { journal, number, mark, as_of_ms, entries, digest } = serde_json::from_slice(line).ok()?;
        let as_of = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(as_of_ms).ok()?);
        let had = entries.zip(digest).map(|(entries, digest)| Contents { entries, digest });
        Some((Position { journal, number, mark }, had, as_of))
    }
}

/// The file.
pub(super) fn recalled_in(state_dir: &Path) -> PathBuf {
    state_dir.join("decisions.cache")
}

/// The reviews of a shared journal as a gnomon of this host last read it.
#[derive(Debug)]
pub struct Recalled {
    /// The last decision on each server.
    pub reviews: Vec<Decision>,
    /// The time of that reading, within a minute.
    pub as_of: SystemTime,
    /// The numbers of lines that cannot be read, from 1: decisions that are not in force.
    pub unreadable: Vec<usize>,
    /// How far the journal was read; none where an earlier version wrote the file.
    pub(super) position: Option<Position>,
    /// The contents up to there; none where an earlier version wrote the file.
    pub(super) had: Option<Contents>,
}

/// The saved reviews; none if there is no file. An unreadable line affects no other.
pub(super) fn recalled(state_dir: &Path) -> io::Result<Option<Recalled>> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(recalled_in(state_dir)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let there = file.metadata()?;
    let mut text = Vec::new();
    if there.is_file() {
        (&file).read_to_end(&mut text)?;
    }
    let mut lines = text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()).peekable();
    let head = lines.next_if(|(_, line)| Head::read(line).is_some()).and_then(|(_, line)| Head::read(line));
    let (position, had, as_of) = match head {
        Some((position, had, as_of)) => (Some(position), had, as_of),
        None => (None, None, there.modified()?),
    };
    let (mut reviews, mut unreadable) = (Vec::new(), Vec::new());
    for (number, line) in lines {
        match serde_json::from_slice(line) {
            Ok(review) => reviews.push(review),
            Err(_) => unreadable.push(number + 1),
        }
    }
    Ok(Some(Recalled { reviews, as_of, unreadable, position, had }))
}

/// The saved reviews, how far the journal was read for them, and what it had; lines that cannot be read are logged.
pub(super) fn remembered(state_dir: &Path) -> (Vec<Decision>, Option<Position>, Option<Contents>) {
    match recalled(state_dir) {
        Ok(None) => (Vec::new(), None, None),
        Ok(Some(Recalled { reviews, unreadable, position, had, .. })) => {
            if !unreadable.is_empty() {
                let (path, kept) = (recalled_in(state_dir), reviews.len());
                tracing::error!(
                    "{}: lines {unreadable:?} cannot be read; the {kept} other decisions are in force, and those are not until the shared journal is read",
                    path.display()
                );
            }
            (reviews, position, had)
        }
        Err(error) => {
            tracing::error!(%error, "earlier decisions cannot be read; none is in force until the shared journal can be read");
            (Vec::new(), None, None)
        }
    }
}

/// Saves the entries read up to there, atomically.
pub(super) fn recall(state_dir: &Path, reviews: &[Decision], position: &Position, had: Option<&Contents>) -> io::Result<()> {
    let path = recalled_in(state_dir);
    let draft = path.with_extension("draft");
    let mut text = Head::line(position, had)?.into_bytes();
    for review in reviews {
        serde_json::to_writer(&mut text, review)?;
        text.push(b'\n');
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(libc::O_NOFOLLOW).mode(0o640).open(&draft)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(draft, path)
}

/// Confirms that the saved copy is current, if it is the one that was read up to there.
pub(super) fn note(state_dir: &Path, position: &Position, had: Option<&Contents>) -> io::Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(recalled_in(state_dir))?;
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, 0)?;
    if Head::read(&head).is_none_or(|(there, ..)| there != *position) || !head.ends_with(b"\n") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "decisions.cache was changed by somebody else"));
    }
    file.write_all_at(Head::line(position, had)?.as_bytes(), 0)
}

/// True if nothing is saved.
pub(super) fn is_gone(state_dir: &Path) -> bool {
    fs::symlink_metadata(recalled_in(state_dir)).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}
