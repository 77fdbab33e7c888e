//! Why a ledger could not be opened, written or read, each with the next step. What a database says is carried along unread.

use crate::MIN_ID_PREFIX;
use std::error::Error;
use thiserror::Error;

/// The cause of a failure, from the system or a database.
pub type Cause = Box<dyn Error + Send + Sync>;

/// An error of opening a ledger's database for writing.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file cannot be created or written.
    #[error("cannot write {at}: {source}; make it writable for the user gnomon runs as, or use another --state-dir")]
    NotWritable {
        /// Its location, as people name it.
        at: String,
        /// The system's error.
        source: Cause,
    },
    /// A newer gnomon wrote this database.
    #[error("{at} was written by a newer gnomon (schema {found}, this one knows {known}); upgrade gnomon, or {anew}")]
    NewerSchema {
        /// Its location.
        at: String,
        /// How to begin anew, which the engine knows.
        anew: String,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The file is a database of another program.
    #[error("{at} is a database of another program; use another --state-dir")]
    NotALedger {
        /// Its location.
        at: String,
    },
    /// The disk is full.
    #[error("cannot open {at}, as the disk is full ({source}); make room there, and leave the file where it is")]
    Full {
        /// Its location.
        at: String,
        /// The system's or the database's error.
        source: Cause,
    },
    /// This process may open no more files.
    #[error("cannot open {at}: {source}; nothing of it is damaged")]
    Descriptors {
        /// Its location.
        at: String,
        /// The system's error, and which limit it is.
        source: Cause,
    },
    /// The file is no whole database.
    #[error("{at} is damaged ({source}): {remedy}")]
    Damaged {
        /// Its location.
        at: String,
        /// What to do, which the engine knows.
        remedy: String,
        /// The database's error.
        source: Cause,
    },
    /// The database refuses.
    #[error("cannot open {at}: {source}; nothing says that it is damaged: leave it where it is, mend the cause, and start again")]
    Database {
        /// Its location.
        at: String,
        /// The database's error.
        source: Cause,
    },
}

/// An error of a [`crate::Store`].
#[derive(Debug, Error)]
#[error("{cause}")]
pub struct StoreError {
    cause: Cause,
    was_refused: bool,
}

impl StoreError {
    /// An error with the database's cause.
    pub fn new(cause: impl Into<Cause>) -> Self {
        Self { cause: cause.into(), was_refused: false }
    }

    /// An error with the database's cause where it is known that nothing was kept.
    pub fn refused(cause: impl Into<Cause>) -> Self {
        Self { cause: cause.into(), was_refused: true }
    }

    /// True if it is known that nothing was kept.
    #[must_use]
    pub fn was_refused(&self) -> bool {
        self.was_refused
    }
}

/// An error of reading a ledger.
#[derive(Debug, Error)]
pub enum ReadError {
    /// There is no ledger.
    #[error("no ledger at {at}; start `gnomon run` first, or name its --state-dir")]
    Missing {
        /// The location that was searched, as people name it.
        at: String,
    },
    /// Permission to read the ledger is denied.
    #[error("cannot read {at}: {source}; join the group that owns it, or use sudo")]
    NotReadable {
        /// Its location.
        at: String,
        /// The system's error.
        source: Cause,
    },
    /// The schema of another version of gnomon.
    #[error("{at} has schema {found}, this gnomon knows {known}; use the gnomon that writes it")]
    Schema {
        /// Its location.
        at: String,
        /// Its version.
        found: i64,
        /// The version known here.
        known: i64,
    },
    /// The file has nothing in it.
    #[error(
        "{at} is empty: it was truncated, or its disk is full and nothing was written yet; a gnomon that runs begins the ledger anew once there is room, within ten minutes, else start one"
    )]
    Empty {
        /// Its location.
        at: String,
    },
    /// The file is no whole database.
    #[error("{at} is damaged ({source}): {remedy}")]
    Damaged {
        /// Its location.
        at: String,
        /// What to do, which the engine knows.
        remedy: String,
        /// The database's error.
        source: Cause,
    },
    /// The file is a database of another program.
    #[error("{at} is a database of another program; name the --state-dir of gnomon")]
    NotALedger {
        /// Its location.
        at: String,
    },
    /// The text is not an id.
    #[error(
        "`{text}` is not the id of an event or an incident; copy it from the ID column or `event.id` (at least {MIN_ID_PREFIX} of its digits)"
    )]
    NotAnId {
        /// The text that was written.
        text: String,
    },
    /// A stored row makes no sense.
    #[error("the database's table {table} has an invalid value in {column} (row {row})")]
    BadRow {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's number.
        row: i64,
    },
    /// The database refuses.
    #[error("cannot read the ledger: {0}")]
    Database(#[source] Cause),
    /// The database that several gnomons share their decisions in refuses, or is away.
    #[error("cannot read the database of decisions: {0}")]
    Shared(Cause),
}
