//! A sink's cursor, up to which it has accepted events: a small file beside the ledger, replaced whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Longest cursor file, bytes.
const MAX_BYTES: u64 = 256;

/// A cursor that cannot be kept.
#[derive(Debug, Error)]
pub enum CursorError {
    /// The file cannot be read or written.
    #[error("the export's cursor {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file does not say what this gnomon writes.
    #[error("the export's cursor {} holds something else; remove it to send every event in the ledger again", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
    },
}

/// The last event that a sink accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkCursor {
    /// Its number in the ledger.
    pub seq: i64,
    /// Its `event.id`: another event of that number means another ledger.
    pub event_id: String,
}

/// The file that keeps a cursor.
#[derive(Debug)]
pub(crate) struct CursorFile {
    path: PathBuf,
}

impl CursorFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The stored cursor; none where there is no file yet.
    pub(crate) fn load(&self) -> Result<Option<SinkCursor>, CursorError> {
        let mut text = String::new();
        match File::open(&self.path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CursorError::File { path: self.path.clone(), source }),
        }
        let read =
            text.trim_end().split_once(' ').and_then(|(seq, id)| Some(SinkCursor { seq: seq.parse().ok()?, event_id: id.to_owned() }));
        read.map(Some).ok_or_else(|| CursorError::Unreadable { path: self.path.clone() })
    }

    /// Durable when it returns: written beside, fsynced, put in place.
    pub(crate) fn store(&self, cursor: &SinkCursor) -> Result<(), CursorError> {
        let beside = self.path.with_extension("cursor.new");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&beside)?;
            writeln!(file, "{} {}", cursor.seq, cursor.event_id)?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|source| CursorError::File { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_anything_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = CursorFile::new(dir.path().join("export-otlp.cursor"));
        assert_eq!(file.load().unwrap(), None);
        let cursor = SinkCursor { seq: 42, event_id: "019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b11".to_owned() };
        file.store(&cursor).unwrap();
        assert_eq!(file.load().unwrap(), Some(cursor));
        for text in ["", "7", "seven x", "\0"] {
            fs::write(&file.path, text).unwrap();
            assert!(matches!(file.load(), Err(CursorError::Unreadable { .. })), "{text:?}");
        }
    }
}
