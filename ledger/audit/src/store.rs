//! The audit's demands on a database: few, so that another one can take SQLite's place. Numbers are given by the writer; a store that
//! already has one says so, and so two writers cannot fork the chain.

use crate::{
    chain::{ChainId, Head, RecordHash},
    key::KeyError,
};
use std::{future::Future, io, pin::Pin};
use thiserror::Error;

/// The future of a store's operation.
pub type Stored<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// An error of a store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A record of this number is there already: another writer was faster.
    #[error("another writer was faster")]
    Conflict,
    /// The database failed.
    #[error("the audit's database failed: {0}")]
    Database(String),
    /// The disk is full.
    #[error("the disk of the audit's database is full ({0}); make room there, and leave the file where it is")]
    Full(String),
    /// The file is no whole database.
    #[error(
        "the audit's database is damaged ({0}): keep it: stop gnomon, move audit.sqlite, audit.sqlite-wal and audit.sqlite-shm together into another folder, and start again; another chain begins, with the same key"
    )]
    Damaged(String),
    /// The file is not an audit.
    #[error("{0} is not a database of gnomon's audit")]
    Foreign(String),
    /// The key that belongs to it cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl StoreError {
    /// True if there was no room on the disk: later it may succeed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full(_) => true,
            Self::Key(KeyError::Io { source, .. }) => matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
            Self::Conflict | Self::Database(_) | Self::Damaged(_) | Self::Foreign(_) | Self::Key(_) => false,
        }
    }
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its number and hash.
    pub head: Head,
    /// Its JSON, the bytes that the hash covers.
    pub body: String,
    /// Columns for filters: copies from the body. `verify` compares them.
    pub columns: Columns,
}

/// The columns by which records can be filtered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// `gnomon.audit.kind`.
    pub kind: String,
    /// `user.name`.
    pub user: Option<String>,
    /// `gnomon.server.id`.
    pub server: Option<String>,
}

/// A checkpoint as it is kept beside the records, for people; what counts is the copy that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptCheckpoint {
    /// Its number.
    pub number: u64,
    /// The head of the chain.
    pub head: Head,
    /// No record that it covers is younger, milliseconds since 1970: its time, or what is known of the time where the clock went back.
    pub not_younger_ms: i64,
    /// Its line.
    pub line: String,
}

/// Keeps records and checkpoints.
pub trait Store: Send {
    /// The id of the chain, as made with the database.
    fn chain(&self) -> ChainId;
    /// The head before the oldest record that is kept: the chain's start, or where it was trimmed.
    fn anchor(&mut self) -> Stored<'_, Head>;
    /// The head of the chain.
    fn head(&mut self) -> Stored<'_, Head>;
    /// Adds records, all or none, durable on return.
    fn append<'a>(&'a mut self, entries: &'a [StoredRecord]) -> Stored<'a, ()>;
    /// Up to so many records after this number, in order.
    fn after(&mut self, seq: u64, limit: u32) -> Stored<'_, Vec<StoredRecord>>;
    /// The number of records up to this number, whatever theirs are.
    fn upto(&mut self, seq: u64) -> Stored<'_, u64>;
    /// Keeps a checkpoint.
    fn keep<'a>(&'a mut self, checkpoint: &'a KeptCheckpoint) -> Stored<'a, ()>;
    /// The last checkpoint.
    fn last_checkpoint(&mut self) -> Stored<'_, Option<KeptCheckpoint>>;
    /// The last checkpoint that is not younger than `before_ms` and covers no record that is: one from then to `now_ms`. (A record that is of
    /// after that was written while the clock was ahead, and says nothing.)
    fn all_older(&mut self, before_ms: i64, now_ms: i64) -> Stored<'_, Option<KeptCheckpoint>>;
    /// The lines of all checkpoints that are kept, in order.
    fn checkpoints(&mut self) -> Stored<'_, Vec<String>>;
    /// Deletes records up to this head, which a checkpoint has, and the checkpoints before it.
    fn trim(&mut self, upto: Head) -> Stored<'_, ()>;
    /// True if readers that open the audit find the writes: its file and its log were neither moved, removed nor truncated.
    fn is_in_place(&self) -> bool;
    /// Closes it; all that was added is in its file.
    fn close(self: Box<Self>) -> Stored<'static, ()>;
}

impl Columns {
    /// The columns of a body. `None` where it is not a record.
    pub(crate) fn of(body: &str) -> Option<Self> {
        let record: crate::Record = serde_json::from_str(body).ok()?;
        let text = |text: &Option<smol_str::SmolStr>| text.as_ref().map(ToString::to_string);
        Some(Self {
            at_ms: record.at_ms(),
            kind: record.kind.as_str().to_owned(),
            user: text(&record.user_name),
            server: text(&record.server),
        })
    }
}

impl RecordHash {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(RecordHash)
    }
}
