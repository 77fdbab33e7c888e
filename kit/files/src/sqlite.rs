//! Databases of SQLite as files: which of its errors mean a full disk or a damaged file, and whether a database that this process writes is still
//! the one at its path, and whole. By names, codes and the layout of its files (<https://www.sqlite.org/rescode.html>,
//! <https://www.sqlite.org/walformat.html>), without a driver.

use crate::FileId;
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    mem::ManuallyDrop,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// `SQLITE_FULL`, and `SQLITE_IOERR_SHMSIZE`: there is no room for the index of the write-ahead log, which is made as a database is opened.
const FULL: [&str; 2] = ["13", "4874"];
/// `SQLITE_CORRUPT` and `SQLITE_NOTADB`, without what their extended codes add in higher bits.
const DAMAGED: [u32; 2] = [11, 26];
/// `SQLITE_CANTOPEN`, without what its extended codes add in higher bits: a file beside the database cannot be made, for whatever reason.
const NOT_OPENED: u32 = 14;
/// `SQLITE_READONLY`, without what its extended codes add in higher bits: the database, or what is beside it, may not be written.
const READ_ONLY: u32 = 8;
/// Bytes of the write-ahead log's header, and of that of each of its frames.
const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

/// True if this result code of SQLite's, as drivers give it, means that there is no room.
#[must_use]
pub fn is_full(code: &str) -> bool {
    FULL.contains(&code)
}

/// True if this result code of SQLite's, as drivers give it, means that a file could not be opened or made. It does not say why.
#[must_use]
pub fn is_not_opened(code: &str) -> bool {
    code.parse().is_ok_and(|code: u32| code & 0xff == NOT_OPENED)
}

/// True if this result code of SQLite's, as drivers give it, means that something may not be written. It does not say what.
#[must_use]
pub fn is_read_only(code: &str) -> bool {
    code.parse().is_ok_and(|code: u32| code & 0xff == READ_ONLY)
}

/// True if this result code of SQLite's, as drivers give it, means that a file is no whole database.
#[must_use]
pub fn is_damaged(code: &str) -> bool {
    code.parse().is_ok_and(|code: u32| DAMAGED.contains(&(code & 0xff)))
}

/// The write-ahead log of a database.
#[must_use]
pub fn log_of(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What became of a database that others find no longer as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Displaced {
    /// Its file was moved or removed.
    File,
    /// Its file is shorter than it was.
    FileCut,
    /// Its log was moved or removed.
    Log,
    /// Its log is shorter than what was written to it.
    LogCut,
}

impl fmt::Display for Displaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "its file was moved or removed",
            Self::FileCut => "its file was truncated",
            Self::Log => "its log (-wal) was moved or removed",
            Self::LogCut => "its log (-wal) was truncated",
        })
    }
}

/// The place of a database that this process alone writes, in WAL mode, over a connection that stays open. It is looked at between two uses of that
/// connection, never during one.
///
/// Two lengths are known beforehand. The file never becomes shorter by itself, but for what it has beyond the pages of the database, and where pages
/// are given back ([`shrinks`](Self::shrinks)). The log has all frames that its index counts; that index is what connections share, and lives
/// as long as one of them.
#[derive(Debug)]
pub struct DatabasePlace {
    path: PathBuf,
    log: PathBuf,
    /// The index, if there was one. It stays open for ever: whoever closes any descriptor of a file gives up all locks that this process has on it
    /// (fcntl(2)), those of SQLite's own connections too, and another process would take itself for the only one and cut the index short.
    index: Option<ManuallyDrop<File>>,
    file_id: FileId,
    /// None if it was opened without a log.
    log_id: Option<FileId>,
    /// The length that the file has at least, bytes: what it was seen to have of the pages of the database, since any were given back.
    length: AtomicU64,
}

impl DatabasePlace {
    /// The place as it is now that the database is open.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        let there = fs::metadata(path)?;
        let (log, index) = (log_of(path), File::open(beside(path, "-shm")).ok().map(ManuallyDrop::new));
        let length = AtomicU64::new(lasting(there.len(), index.as_deref().and_then(Index::read)));
        let log_id = fs::metadata(&log).ok().as_ref().map(FileId::of);
        Ok(Self { path: path.to_owned(), log, index, file_id: FileId::of(&there), log_id, length })
    }

    /// Whether whoever opens the path finds all that was written.
    ///
    /// # Errors
    /// What became of it. A lack of permission is none: writing reports it.
    pub fn look(&self) -> Result<(), Displaced> {
        let index = self.index.as_deref().and_then(Index::read);
        if let Some(there) = found(&self.path, self.file_id).map_err(|Gone| Displaced::File)? {
            if there < self.length.load(Ordering::Relaxed) {
                return Err(Displaced::FileCut);
            }
            self.length.fetch_max(lasting(there, index), Ordering::Relaxed);
        }
        let Some(id) = self.log_id else { return Ok(()) };
        let Some(there) = found(&self.log, id).map_err(|Gone| Displaced::Log)? else { return Ok(()) };
        let written = index.map_or(0, Index::log_length);
        if there < written { Err(Displaced::LogCut) } else { Ok(()) }
    }

    /// Notes that pages were just given back: the file may become as short as the database is now.
    pub fn shrinks(&self) {
        // Without an index nothing is known of it, and so any length is right.
        let now = self.index.as_deref().and_then(Index::read).map_or(0, Index::database_length);
        self.length.fetch_min(now, Ordering::Relaxed);
    }

    /// Makes way for another database at the path, before the connection is closed: a file that was cut is renamed (`-damaged` at its end, in place
    /// of an earlier one), so that what is left of it can be looked at. What is left of a log that was cut is dropped: folded into the
    /// file, a part of a transaction would damage that too.
    ///
    /// # Errors
    /// The file or the log cannot be changed. It can be tried again.
    pub fn give_way(&self) -> io::Result<()> {
        match self.look() {
            Err(Displaced::FileCut) => fs::rename(&self.path, beside(&self.path, "-damaged")),
            Err(Displaced::LogCut) => OpenOptions::new().write(true).open(&self.log)?.set_len(0),
            Ok(()) | Err(Displaced::File | Displaced::Log) => Ok(()),
        }
    }
}

/// Another file is there, or none.
struct Gone;

/// The length of a file; none where it may not be looked at.
fn found(path: &Path, known: FileId) -> Result<Option<u64>, Gone> {
    match fs::metadata(path) {
        Ok(there) if FileId::of(&there) == known => Ok(Some(there.len())),
        Ok(_) => Err(Gone),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Err(Gone),
        Err(_) => Ok(None),
    }
}

/// What a file of this length keeps of it, whatever is folded into it: a fold cuts off what is beyond the pages of the database. An index that
/// has never seen any leaves the database as the file has it.
fn lasting(length: u64, index: Option<Index>) -> u64 {
    match index.map_or(0, Index::database_length) {
        0 => length,
        database => length.min(database),
    }
}

/// What the log's index says: the frames of the log, and the pages of the database with all that is in the log.
#[derive(Clone, Copy)]
struct Index {
    page: u64,
    frames: u64,
    pages: u64,
}

impl Index {
    /// Reads its header: native numbers, the size of a page at byte 14, frames at 16, pages at 20.
    fn read(index: &File) -> Option<Self> {
        let mut header = [0; 24];
        index.read_exact_at(&mut header, 0).ok()?;
        let number = |at: usize| header.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let is_made = header[12] == 1;
        let page = match u16::from_ne_bytes([header[14], header[15]]) {
            1 => 1 << 16,
            page => u64::from(page),
        };
        is_made.then_some(Self { page, frames: number(16)?.into(), pages: number(20)?.into() })
    }

    fn log_length(self) -> u64 {
        if self.frames == 0 { 0 } else { LOG_HEADER + self.frames * (FRAME_HEADER + self.page) }
    }

    fn database_length(self) -> u64 {
        self.pages * self.page
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn codes_are_those_of_a_full_disk_and_of_a_file_that_is_no_whole_database() {
        assert!(is_full("13") && is_full("4874") && !is_full("10") && !is_full("778"));
        // `SQLITE_CANTOPEN_ISDIR` is 14 and 2 in the second byte.
        assert!(is_not_opened("14") && is_not_opened("526") && !is_not_opened("13") && !is_not_opened("x"));
        // `SQLITE_READONLY_DIRECTORY` is 8 and 6 in the second byte.
        assert!(is_read_only("8") && is_read_only("1544") && !is_read_only("14") && !is_read_only("x"));
        // `SQLITE_CORRUPT_INDEX` is 11 and 3 in the second byte.
        assert!(is_damaged("11") && is_damaged("26") && is_damaged("779") && !is_damaged("13") && !is_damaged("x"));
    }

    #[test]
    fn without_an_index_of_the_log_lengths_of_the_log_are_not_judged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        fs::write(&path, [1; 100]).unwrap();
        fs::write(log_of(&path), [1; 100]).unwrap();
        let place = DatabasePlace::of(&path).unwrap();
        fs::write(log_of(&path), []).unwrap();
        place.look().unwrap();
        File::options().write(true).open(&path).unwrap().set_len(99).unwrap();
        assert_eq!(place.look(), Err(Displaced::FileCut));
        place.shrinks();
        place.look().unwrap();
        fs::remove_file(log_of(&path)).unwrap();
        assert_eq!(place.look(), Err(Displaced::Log));
        fs::remove_file(&path).unwrap();
        assert_eq!(place.look(), Err(Displaced::File));
    }
}
