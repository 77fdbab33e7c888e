//! What errors of SQLite, and of its files, mean.

use gnomon_files::sqlite::{self, Displaced};
use std::{borrow::Cow, io};
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
    /// True if there was no room on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::File(error) => error.kind() == io::ErrorKind::StorageFull,
            Self::Database(error) => is_full(error),
            Self::Displaced(_) => false,
        }
    }
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
