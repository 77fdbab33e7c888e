//! Why the ledger could not be opened or read, each with the next step.

use crate::MIN_ID_PREFIX;
use std::{io, path::PathBuf};
use thiserror::Error;

/// Why the ledger could not be opened for writing.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// Another process holds the lock.
    #[error("another gnomon{} is writing to {}; stop it or use another --state-dir", pid.map(|p| format!(" (pid {p})")).unwrap_or_default(), dir.display())]
    Busy {
        /// The folder it writes to.
        dir: PathBuf,
        /// Its process id, as it wrote it down.
        pid: Option<u32>,
    },
    /// A file or its folder cannot be created or written.
    #[error("cannot write {}: {source}; make it writable for the user gnomon runs as, or use another --state-dir", path.display())]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A newer gnomon wrote this database.
    #[error("{} was written by a newer gnomon (schema {found}, this one knows {known}); upgrade gnomon, or move the file away to begin anew", path.display())]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The file is a database of another program.
    #[error("{} is a database of another program; use another --state-dir", path.display())]
    NotALedger {
        /// The file.
        path: PathBuf,
    },
    /// SQLite refuses it.
    #[error("cannot open the ledger {}: {source}; if the file is damaged, move it away and start again", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: sqlx::Error,
    },
    /// The writer's thread could not be started.
    #[error("cannot start the ledger's writer: {source}")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
}

/// Why the ledger could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// There is no database.
    #[error("no ledger at {}; start `gnomon run` first, or name its --state-dir", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file may not be read.
    #[error("cannot read {}: {source}; join the group that owns it, or use sudo", path.display())]
    NotReadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another gnomon's schema.
    #[error("{} has schema {found}, this gnomon knows {known}; use the gnomon that writes it", path.display())]
    Schema {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The version known here.
        known: i64,
    },
    /// What was asked for is no id.
    #[error(
        "`{text}` is no id of an event or an incident; copy it from the ID column or `event.id` (at least {MIN_ID_PREFIX} of its digits)"
    )]
    NotAnId {
        /// What was written.
        text: String,
    },
    /// A stored row makes no sense.
    #[error("the ledger's table {table} has a value in {column} that makes no sense (row {row})")]
    BadRow {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's number.
        row: i64,
    },
    /// SQLite refuses.
    #[error("cannot read the ledger: {0}")]
    Database(#[from] sqlx::Error),
}
