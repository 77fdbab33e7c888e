//! Why the ledger could not be opened for writing, each with the next step.

use crate::OpenError;
use std::{io, path::PathBuf};
use thiserror::Error;

/// An error of opening the ledger for writing.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// Another process holds the lock.
    #[error("another gnomon{} is writing to {}; stop it or use another --state-dir", pid.map(|p| format!(" (pid {p})")).unwrap_or_default(), dir.display())]
    Busy {
        /// The folder it writes to.
        dir: PathBuf,
        /// Its process id, from the lock file.
        pid: Option<u32>,
    },
    /// A file or its folder cannot be created or written.
    #[error("cannot write {}: {source}; make it writable for the user gnomon runs as, or use another --state-dir", path.display())]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Its database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The writer's thread could not be started.
    #[error("cannot start the ledger's writer: {source}")]
    Thread {
        /// The system's error.
        source: io::Error,
    },
}
