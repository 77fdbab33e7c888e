//! The ledger in SQLite: schema, appends, questions, trims.
//!
//! One file, one writer ([`SqliteStore`]), any number of readers ([`SqliteReader`]), also while it is written. The traits of
//! `gnomon-ledger-model` specify them; the caller that opens the store must ensure that there is no other writer.
//!
//! **The trade-off**: no index on what events say, since each would cost every event; searches walk the rows, and
//! spare themselves most as numbers rise with time.
//!
//! ```
//! use gnomon_ledger_model::{Event, Group, Keep, Once, Order, Questions, Store};
//! use gnomon_ledger_sqlite::{SqliteReader, SqliteStore};
//! use gnomon_observe::{Field, Observation};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("ledger.sqlite");
//! let keep = Keep { max_bytes: 1 << 30, retention: std::time::Duration::MAX };
//! let mut store = SqliteStore::open(&path, keep).await?;
//! let mut seen = Observation::new();
//! seen.set(Field::ServerAddress, "mcp.example.com");
//! let (mut group, mut calls, event) = (Group::default(), Once::default(), Event::now(seen));
//! let at_ms = event.at_ms();
//! event.with_line(|seen, line| group.push(&mut calls, seen, at_ms, line));
//! store.append(&group, at_ms).await?;
//! let mut questions = Questions::to(Box::new(SqliteReader::open(&path).await?));
//! assert_eq!(questions.events(&Default::default(), Order::OldestFirst).await?.len(), 1);
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs)]

mod append;
mod conditions;
mod decisions;
mod inventory;
mod migrate;
mod query;
mod schema;
mod story;
mod trim;
mod volume;

pub use decisions::SqliteDecisions;
pub use query::SqliteReader;

use gnomon_database::{Database, Failure, Opened, PAGE_BYTES, durable, is_damaged, is_full};
use gnomon_files::sqlite::log_of;
use gnomon_ledger_model::{
    FirstSeen, Forgotten, Group, Keep, OpenError, Store, StoreError, Stored,
    volume::{Pair, Volume},
};
use inventory::Applied;
use sqlx::{Connection, sqlite::SqliteAutoVacuum};
use std::{
    ops::Range,
    path::{Path, PathBuf},
};

/// The smallest size bound that is honoured, in bytes; a smaller one is raised to it. The schema
/// and one batch must fit several times over.
pub const MIN_DATABASE_BYTES: u64 = 8 << 20;
/// KiB of pages that the writer keeps in memory.
const CACHE_KIB: u32 = 4096;
/// Past this many bytes the write-ahead log is folded into the database and cut …
const WAL_FOLD_BYTES: u64 = 24 << 20;
/// … and past this many (someone keeps a read transaction open) nothing more is written to it.
const WAL_MAX_BYTES: u64 = 64 << 20;

/// The writing side.
pub struct SqliteStore {
    database: Database,
    path: PathBuf,
    keep: Keep,
    wal: PathBuf,
    max_pages: i64,
    retention_ms: i64,
    /// Rows of the inventory.
    servers: usize,
    statements: append::Statements,
    trimmed: trim::Schedule,
}

/// Why a database could not be opened.
pub(crate) fn not_opened(path: &Path, failure: impl Into<Failure>) -> OpenError {
    let (at, failure) = (path.display().to_string(), failure.into().explained(path));
    let (has_no_room, is_damaged) = (failure.is_full(), failure.is_damaged());
    match failure {
        Failure::File(error) if has_no_room => OpenError::Full { at, source: error.into() },
        Failure::Database(error) if has_no_room => OpenError::Full { at, source: error.into() },
        Failure::File(error) => OpenError::NotWritable { at, source: error.into() },
        Failure::Descriptors(_) => OpenError::Descriptors { at, source: failure.into() },
        Failure::Database(error) if is_damaged => {
            let remedy = format!(
                "stop gnomon, move it, {at}-wal and {at}-shm together into another folder, as the newest is in -wal alone, and start again; `sqlite3 FILE .recover` there reads what is left"
            );
            OpenError::Damaged { at, remedy, source: error.into() }
        }
        Failure::Database(error) => OpenError::Database { at, source: error.into() },
        displaced @ Failure::Displaced(_) => OpenError::Database { at, source: displaced.into() },
    }
}

/// A group that was not written, with the next step where it is known.
fn not_written(error: sqlx::Error) -> StoreError {
    if is_full(&error) {
        return StoreError::new(format!("{error}; make room there, and leave the file where it is"));
    }
    if is_damaged(&error) {
        return StoreError::new(format!("{error}; the file is damaged: restart gnomon, which says what to do with it"));
    }
    StoreError::new(error)
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens or creates the database; a bound below [`MIN_DATABASE_BYTES`] is raised to it. A file that is created has mode 0640.
    ///
    /// # Errors
    /// When it cannot be written, is of a newer gnomon, of another program or damaged.
    pub async fn open(path: &Path, keep: Keep) -> Result<Self, OpenError> {
        let not_opened = |failure: Failure| not_opened(path, failure);
        let max_pages = i64::try_from(keep.max_bytes.max(MIN_DATABASE_BYTES) / u64::from(PAGE_BYTES)).unwrap_or(i64::MAX);
        let options = durable(path, CACHE_KIB)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .pragma("journal_size_limit", (WAL_FOLD_BYTES / 2).to_string());
        let mut opened = Opened::to_write(path, options).await.map_err(not_opened)?;
        schema::SCHEMA.migrate(opened.conn(), path).await?;
        let mut database = opened.settled().map_err(not_opened)?;
        let servers = inventory::count(database.conn()).await.map_err(|error| not_opened(error.into()))?;
        Ok(Self {
            database,
            path: path.to_owned(),
            keep,
            wal: log_of(path),
            max_pages,
            retention_ms: i64::try_from(keep.retention.as_millis()).unwrap_or(i64::MAX),
            servers,
            statements: append::Statements::default(),
            trimmed: trim::Schedule::default(),
        })
    }

    async fn try_append(&mut self, group: &Group, now_ms: i64) -> Result<FirstSeen, sqlx::Error> {
        self.bound_log().await?;
        self.make_room(group.bytes(), now_ms).await?;
        let servers = self.servers;
        let mut tx = self.database.conn().begin().await?;
        let seqs = append::events(&mut tx, &mut self.statements, group).await?;
        append::incidents(&mut tx, group.deltas(), &seqs).await?;
        let Applied { servers, first_seen } = inventory::apply(&mut tx, group.deltas(), servers).await?;
        volume::add(&mut tx, &group.deltas().volumes).await?;
        tx.commit().await?;
        self.servers = servers;
        Ok(first_seen)
    }

    /// Folds the log into the database once it is long, and refuses to let it grow for ever.
    async fn bound_log(&mut self) -> Result<(), sqlx::Error> {
        let length = || std::fs::metadata(&self.wal).map_or(0, |there| there.len());
        if length() > WAL_FOLD_BYTES {
            // PASSIVE never waits for readers; what it cannot fold now, it folds later.
            sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(self.database.conn()).await?;
            if length() > WAL_MAX_BYTES {
                sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(self.database.conn()).await?;
                if length() > WAL_MAX_BYTES {
                    return Err(sqlx::Error::Protocol("a reader keeps the write-ahead log from being folded; end it".to_owned()));
                }
            }
        }
        Ok(())
    }
}

impl Store for SqliteStore {
    fn append<'a>(&'a mut self, group: &'a Group, now_ms: i64) -> Stored<'a, FirstSeen> {
        Box::pin(async move {
            self.database.sound().await.map_err(StoreError::new)?;
            let appended = self.try_append(group, now_ms).await;
            if appended.is_err() {
                self.database.is_suspect();
            }
            appended.map_err(not_written)
        })
    }

    fn forget(&mut self, now_ms: i64) -> Stored<'_, ()> {
        Box::pin(async move { self.forget_all(now_ms).await.map_err(StoreError::new) })
    }

    fn forgotten(&self) -> Forgotten {
        self.trimmed.forgotten
    }

    fn newest_ms(&mut self) -> Stored<'_, Option<i64>> {
        Box::pin(async move { self.newest().await.map_err(StoreError::new) })
    }

    fn is_in_place(&self) -> bool {
        self.database.look().is_ok()
    }

    fn begin_anew(&mut self) -> Stored<'_, ()> {
        Box::pin(async move {
            let forgotten = self.trimmed.forgotten;
            self.database.give_way().await.map_err(|failure| match failure {
                Failure::File(_) => StoreError::refused(failure),
                Failure::Descriptors(_) | Failure::Database(_) | Failure::Displaced(_) => StoreError::new(failure),
            })?;
            *self = Self::open(&self.path, self.keep).await.map_err(StoreError::new)?;
            self.trimmed.forgotten = forgotten;
            Ok(())
        })
    }

    fn oldest_hour(&mut self, from: i64) -> Stored<'_, Option<i64>> {
        Box::pin(async move { volume::oldest(self.database.conn(), from).await.map_err(StoreError::new) })
    }

    fn busiest(&mut self, hour: i64, told_after: i64, limit: usize) -> Stored<'_, Vec<(Pair, Volume)>> {
        Box::pin(async move { volume::busiest(self.database.conn(), hour, told_after, limit).await.map_err(StoreError::new) })
    }

    fn hours<'a>(&'a mut self, pair: Option<&'a Pair>, hours: Range<i64>) -> Stored<'a, Vec<(i64, Volume)>> {
        Box::pin(async move { volume::hours(self.database.conn(), pair, hours).await.map_err(StoreError::new) })
    }

    fn tell<'a>(&'a mut self, pair: &'a Pair, hour: i64) -> Stored<'a, ()> {
        Box::pin(async move { volume::tell(self.database.conn(), pair, hour).await.map_err(StoreError::new) })
    }

    fn forget_hours(&mut self, before: i64) -> Stored<'_, ()> {
        Box::pin(async move { volume::forget(self.database.conn(), before).await.map_err(StoreError::new) })
    }

    /// Folds the log into the database and closes it.
    fn close(mut self: Box<Self>) -> Stored<'static, ()> {
        Box::pin(async move {
            // A failure leaves the log beside the database, which the next opening reads.
            let folded = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(self.database.conn()).await;
            self.database.close().await.and(folded.map(|_| ())).map_err(StoreError::new)
        })
    }
}
