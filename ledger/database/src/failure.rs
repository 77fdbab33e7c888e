//! What errors of SQLite, and of its files, mean.

use gnomon_files::sqlite::{self, Displaced};
use rustix::fs::statvfs;
use std::{borrow::Cow, io, path::Path};
use thiserror::Error;

/// Why a database cannot be used.
#[derive(Debug, Error)]
pub enum Failure {
    /// Its file cannot be made, looked at or changed.
    #[error(transparent)]
    File(io::Error),
    /// The database refuses.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Its file is no longer in its place.
    #[error("{0}")]
    Displaced(Displaced),
}

impl From<Displaced> for Failure {
    fn from(displaced: Displaced) -> Self {
        Self::Displaced(displaced)
    }
}

impl Failure {
    /// A connection to the database at this path could not be had. Where a file beside it could not be made for lack of room, SQLite says no more
    /// than that it could not be opened: so the file system is asked.
    pub(crate) fn connecting(error: sqlx::Error, path: &Path) -> Self {
        let is_unclear = code(&error).is_some_and(|code| sqlite::is_not_opened(&code));
        if is_unclear && has_no_room(path) { Self::File(io::ErrorKind::StorageFull.into()) } else { Self::Database(error) }
    }

    /// True if there was no room on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::File(error) => matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
            Self::Database(error) => is_full(error),
            Self::Displaced(_) => false,
        }
    }
}

/// True if the file system of this file has no room for more bytes, or for more files.
fn has_no_room(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    statvfs(folder).is_ok_and(|room| room.f_bavail == 0 || room.f_files > 0 && room.f_favail == 0)
}

/// SQLite's result code, where the database gave the error.
#[must_use]
pub fn code(error: &sqlx::Error) -> Option<Cow<'_, str>> {
    error.as_database_error().and_then(|error| error.code())
}

/// True if there was no room on the disk.
#[must_use]
pub fn is_full(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| sqlite::is_full(&code))
}

/// True if a file is no whole database.
#[must_use]
pub fn is_damaged(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| sqlite::is_damaged(&code))
}
