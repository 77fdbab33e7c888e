//! The ledger in SQLite: the only place that knows SQL.

mod append;
mod conditions;
mod inventory;
mod query;
mod schema;
mod story;
mod trim;
mod volume;

pub(crate) use query::Rows;
pub(crate) use story::Around;

use crate::{FirstSeen, LedgerError, group::Group, options::MIN_DATABASE_BYTES};
use inventory::Applied;
use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Large pages suit rows of a kilobyte or two: less of each page stays empty, and a commit writes
/// fewer of them.
const PAGE_BYTES: u32 = 16384;
/// Past this many bytes the write-ahead log is folded into the database and cut …
const WAL_FOLD_BYTES: u64 = 24 << 20;
/// … and past this many (someone keeps a read transaction open) nothing more is written to it.
const WAL_MAX_BYTES: u64 = 64 << 20;

/// Whether the connection is what the driver takes it for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Sound,
    /// Something failed. A transaction that could not be ended, as on a full disk, may still be open: what is written next
    /// would be a part of it, look committed and never be.
    Suspect,
}

/// The writing side.
pub(crate) struct Store {
    conn: SqliteConnection,
    options: SqliteConnectOptions,
    standing: Standing,
    wal: PathBuf,
    max_pages: i64,
    retention_ms: i64,
    /// Rows of the inventory.
    servers: usize,
    statements: append::Statements,
    trimmed: trim::Schedule,
    volume: volume::Watch,
}

impl Store {
    /// Opens or creates the database.
    pub(crate) async fn open(path: &Path, max_bytes: u64, retention: Duration) -> Result<Self, LedgerError> {
        // SQLite gives its log and shared memory the mode of the database, so creating it decides.
        OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)
            .map_err(|source| LedgerError::NotWritable { path: path.to_owned(), source })?;
        let database = |source| LedgerError::Database { path: path.to_owned(), source };
        let max_pages = i64::try_from(max_bytes.max(MIN_DATABASE_BYTES) / u64::from(PAGE_BYTES)).unwrap_or(i64::MAX);
        let options = SqliteConnectOptions::new()
            .filename(path)
            .page_size(PAGE_BYTES)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode only FULL syncs the log at every commit.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(2))
            .pragma("journal_size_limit", (WAL_FOLD_BYTES / 2).to_string())
            .pragma("cache_size", "-4096")
            .optimize_on_close(false, None)
            .disable_statement_logging();
        let mut conn = options.connect().await.map_err(database)?;
        schema::migrate(&mut conn, path).await?;
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        let servers = inventory::count(&mut conn).await.map_err(database)?;
        Ok(Self {
            conn,
            options,
            standing: Standing::Sound,
            wal: wal.into(),
            max_pages,
            retention_ms: i64::try_from(retention.as_millis()).unwrap_or(i64::MAX),
            servers,
            statements: append::Statements::default(),
            trimmed: trim::Schedule::default(),
            volume: volume::Watch::default(),
        })
    }

    /// Adds a group and what it changes in one transaction, durable on return. All or nothing. Says which
    /// servers are new.
    pub(crate) async fn append(&mut self, group: &Group, now_ms: i64) -> Result<FirstSeen, sqlx::Error> {
        self.mend().await?;
        let appended = self.try_append(group, now_ms).await;
        if appended.is_err() {
            self.standing = Standing::Suspect;
        }
        appended
    }

    /// Opens another connection where this one cannot be relied upon.
    async fn mend(&mut self) -> Result<(), sqlx::Error> {
        if self.standing == Standing::Suspect {
            // The new one first: the last to close would fold the log, for which there may be no room.
            let fresh = self.options.connect().await?;
            // Whatever the old one says: its transaction ends with it.
            let _ = std::mem::replace(&mut self.conn, fresh).close().await;
            self.standing = Standing::Sound;
        }
        Ok(())
    }

    async fn try_append(&mut self, group: &Group, now_ms: i64) -> Result<FirstSeen, sqlx::Error> {
        self.bound_log().await?;
        self.make_room(group.bytes(), now_ms).await?;
        let servers = self.servers;
        let mut tx = self.conn.begin().await?;
        let seqs = append::events(&mut tx, &mut self.statements, group).await?;
        append::incidents(&mut tx, &group.deltas, &seqs).await?;
        let Applied { servers, first_seen } = inventory::apply(&mut tx, &group.deltas, servers).await?;
        volume::add(&mut tx, &group.deltas.volumes).await?;
        tx.commit().await?;
        self.servers = servers;
        Ok(first_seen)
    }

    /// Folds the log into the database once it is long, and refuses to let it grow for ever.
    async fn bound_log(&mut self) -> Result<(), sqlx::Error> {
        let length = || std::fs::metadata(&self.wal).map_or(0, |there| there.len());
        if length() > WAL_FOLD_BYTES {
            // PASSIVE never waits for readers; what it cannot fold now, it folds later.
            sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut self.conn).await?;
            if length() > WAL_MAX_BYTES {
                sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut self.conn).await?;
                if length() > WAL_MAX_BYTES {
                    return Err(sqlx::Error::Protocol("a reader keeps the write-ahead log from being folded; end it".to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Folds the log into the database and closes it.
    pub(crate) async fn close(mut self) {
        // A failure leaves the log beside the database, which the next opening reads.
        let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut self.conn).await;
        let _ = self.conn.close().await;
    }
}
