//! What errors of SQLite, and of its files, mean.

use crate::file::may;
use gnomon_files::sqlite::{self, Displaced};
use rustix::{
    fs::{Access, statvfs},
    io::Errno,
};
use std::{borrow::Cow, fs::File, io, path::Path};
use thiserror::Error;

/// Why a database cannot be used.
#[derive(Debug, Error)]
pub enum Failure {
    /// Its file cannot be made, looked at or changed.
    #[error(transparent)]
    File(io::Error),
    /// This process, or the system, may open no more files.
    #[error("no more files can be opened ({0}): raise the limit (LimitNOFILE= of the service, ulimit -n)")]
    Descriptors(io::Error),
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
    /// What it comes from, where SQLite says no more than that a file could not be opened or written: so the system is asked whether there is no
    /// room for a file beside the database at this path, no descriptor for it, or no right to make it.
    #[must_use]
    pub fn explained(self, path: &Path) -> Self {
        match self {
            Self::File(error) if is_of_descriptors(&error) => Self::Descriptors(error),
            Self::Database(error) if code(&error).is_some_and(|code| sqlite::is_not_opened(&code) || sqlite::is_read_only(&code)) => {
                unmade(path).unwrap_or(Self::Database(error))
            }
            failure => failure,
        }
    }

    /// True if the file is no whole database.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        matches!(self, Self::Database(error) if is_damaged(error))
    }

    /// True if there was no room on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::File(error) => matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
            Self::Database(error) => is_full(error),
            Self::Descriptors(_) | Self::Displaced(_) => false,
        }
    }
}

/// How many descriptors a database is opened with: file, log, index, journal and folder.
const DESCRIPTORS: usize = 5;

/// Why no file can be made beside this one; none if one can.
fn unmade(path: &Path) -> Option<Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if statvfs(folder).is_ok_and(|room| room.f_bavail == 0 || room.f_files > 0 && room.f_favail == 0) {
        return Some(Failure::File(io::ErrorKind::StorageFull.into()));
    }
    let spare: io::Result<Vec<File>> = (0..DESCRIPTORS).map(|_| File::open("/dev/null")).collect();
    match spare {
        Err(error) if is_of_descriptors(&error) => return Some(Failure::Descriptors(error)),
        _ => {}
    }
    let refused = may(folder, Access::WRITE_OK | Access::EXEC_OK).err()?;
    Some(Failure::File(io::Error::new(refused.kind(), format!("its folder cannot be written to: {refused}"))))
}

fn is_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).iter().any(|code| error.raw_os_error() == Some(*code))
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
