//! The files that decisions are imported from: one JSON line each, written by hand, by configuration management, or by a gnomon
//! from before there was a journal.

use crate::{DecidedBy, Decision, Verdict};
use gnomon_ledger_model::DecisionEntry;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use thiserror::Error;

const REVIEWS: &str = "reviews.jsonl";
const VERDICTS: &str = "verdicts.jsonl";
/// The file with the id that tells this state folder from every other, where several share a journal.
const SOURCE: &str = "source.id";
/// The length of that id, hexadecimal digits.
const SOURCE_DIGITS: usize = 16;
/// The longest file of reviews that is read, bytes.
pub const MAX_REVIEWS_BYTES: u64 = 16 << 20;
/// The most bytes read of a file of verdicts: some ten thousand verdicts.
const MAX_VERDICTS_BYTES: u64 = 8 << 20;
/// The time for which another process may import from a file before this one gives up.
const TURN: Duration = Duration::from_secs(2);
/// The interval at which it looks whether that one is done.
const LOOK: Duration = Duration::from_millis(20);

/// The reviews of a state folder that are imported.
#[must_use]
pub fn reviews_in(state_dir: &Path) -> PathBuf {
    state_dir.join(REVIEWS)
}

/// The verdicts of a state folder that are imported.
#[must_use]
pub fn verdicts_in(state_dir: &Path) -> PathBuf {
    state_dir.join(VERDICTS)
}

/// An error of importing a file.
#[derive(Debug, Error)]
pub enum FileError {
    /// The system refuses.
    #[error("cannot read {}: {source}; use sudo, or name the right --state-dir", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A line makes no sense.
    #[error("{}:{line}: not a decision: {cause}; correct or remove the line", path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// The reason.
        cause: String,
    },
    /// The file is too long.
    #[error("{} is longer than {MAX_REVIEWS_BYTES} bytes; archive it, and keep the last line of each server", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Another process imports from it and does not end.
    #[error("{} is locked by another process; try again", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
}

/// The identity of a file at a moment: device, inode, length, time of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(u64, u64, u64, i64);

impl Stamp {
    /// The stamp of a file; none if there is no file.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let there = fs::metadata(path).ok()?;
        Some(Self(there.dev(), there.ino(), there.len(), there.mtime_nsec() ^ there.mtime()))
    }
}

/// The entries of one file.
pub(super) struct Import {
    /// Its name. Not its path: what has moved is not imported anew.
    pub(super) source: String,
    /// Each with a digest of its line, oldest first.
    pub(super) entries: Vec<(String, DecisionEntry)>,
    /// True if entries that it does not have are withdrawn.
    pub(super) is_whole: bool,
    /// Held so that no other process imports from the file meanwhile.
    pub(super) _turn: File,
}

/// Reads the files of this state folder. A missing one has nothing, and withdraws nothing.
pub(super) async fn read(state_dir: &Path) -> Result<Vec<Import>, FileError> {
    let (reviews, verdicts) = (reviews_in(state_dir), verdicts_in(state_dir));
    let mut found = Vec::new();
    if let Some(file) = open(&reviews).await? {
        found.push(read_reviews(&reviews, file)?);
    }
    if let Some(file) = open(&verdicts).await? {
        found.push(read_verdicts(file).map_err(|source| FileError::Io { path: verdicts, source })?);
    }
    Ok(found)
}

/// Opens a regular file and nothing else, and waits for its turn: root reads here, in a folder that another user may own.
async fn open(path: &Path) -> Result<Option<File>, FileError> {
    let failed = |source| FileError::Io { path: path.to_owned(), source };
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")));
    }
    let since = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if since.elapsed() > TURN => return Err(FileError::Locked { path: path.to_owned() }),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// The id of the files of this state folder: the host's name, and digits that were drawn when it was first asked.
/// To be asked in turn, as who imports has it.
pub(super) fn source_of(state_dir: &Path) -> Result<String, FileError> {
    let path = state_dir.join(SOURCE);
    let drawn = || match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path) {
        Ok(file) => {
            let mut text = String::new();
            file.take(SOURCE_DIGITS as u64 + 1).read_to_string(&mut text)?;
            let is_one = text.trim_end().len() == SOURCE_DIGITS && text.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit());
            // Half a file is what a power failure leaves. With other digits what was imported counts as another's.
            if is_one { Ok(text.trim_end().to_owned()) } else { draw(&path) }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => draw(&path),
        Err(error) => Err(error),
    };
    let drawn = drawn().map_err(|source| FileError::Io { path: path.clone(), source })?;
    Ok(format!("{} ({drawn})", rustix::system::uname().nodename().to_string_lossy()))
}

/// Creates the file whole or not at all, readable for every process that imports.
fn draw(path: &Path) -> io::Result<String> {
    let mut random = [0; SOURCE_DIGITS / 2];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let digits = hex::encode(random);
    let draft = path.with_extension(format!("draft{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_NOFOLLOW).mode(0o644).open(&draft)?;
    let written = writeln!(file, "{digits}").and_then(|()| file.sync_all()).and_then(|()| fs::rename(&draft, path));
    written.inspect_err(|_| {
        let _ = fs::remove_file(&draft);
    })?;
    Ok(digits)
}

/// A last line that was torn is an error like any other bad line: a decision that is silently missing could be a denial.
fn read_reviews(path: &Path, file: File) -> Result<Import, FileError> {
    let failed = |source| FileError::Io { path: path.to_owned(), source };
    let mut text = String::new();
    if (&file).take(MAX_REVIEWS_BYTES + 1).read_to_string(&mut text).map_err(failed)? as u64 > MAX_REVIEWS_BYTES {
        return Err(FileError::TooLong { path: path.to_owned() });
    }
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let decision: Decision = serde_json::from_str(line).map_err(|error| FileError::BadLine {
            path: path.to_owned(),
            line: number + 1,
            cause: error.to_string(),
        })?;
        entries.push((digest(line), decision.to_entry()));
    }
    Ok(Import { source: REVIEWS.to_owned(), entries, is_whole: true, _turn: file })
}

/// A line of a file of verdicts.
#[derive(Deserialize)]
struct VerdictLine {
    at_ms: i64,
    #[serde(flatten)]
    verdict: Verdict,
}

/// Reads verdicts; of a file that is too long, its end. Lines that cannot be read are left out.
fn read_verdicts(mut file: File) -> io::Result<Import> {
    let older = file.metadata()?.len().saturating_sub(MAX_VERDICTS_BYTES);
    file.seek(SeekFrom::Start(older))?;
    let mut text = Vec::new();
    (&file).take(MAX_VERDICTS_BYTES).read_to_end(&mut text)?;
    // A chunk that begins within a line makes that line unreadable.
    let text = String::from_utf8_lossy(&text);
    let entry = |line: &str| {
        let VerdictLine { at_ms, verdict } = serde_json::from_str(line).ok()?;
        let by = DecidedBy { user: Some(verdict.owner.clone()), login_uid: None, uid: u32::MAX };
        Some((digest(line), verdict.to_entry(by, at_ms)))
    };
    Ok(Import { source: VERDICTS.to_owned(), entries: text.lines().filter_map(entry).collect(), is_whole: false, _turn: file })
}

fn digest(line: &str) -> String {
    hex::encode(&Sha256::digest(line)[..16])
}
