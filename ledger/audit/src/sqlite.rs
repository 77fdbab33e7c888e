//! The audit in SQLite: the only place that knows SQL.

use crate::{
    chain::{ChainId, Head, RecordHash},
    store::{Columns, KeptCheckpoint, Store, StoreError, Stored, StoredRecord},
};
use gnomon_database::{Database, Failure, Opened, PAGE_BYTES, durable, identity, is_damaged, is_full};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection, sqlite::SqliteRow};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// "gnoA": marks the file as an audit, so that nothing else is written into or read as one.
const APPLICATION_ID: i64 = 0x676e_6f41;
/// KiB of pages that are kept in memory.
const CACHE_KIB: u32 = 2048;

/// Records are never updated; what would is refused by the database itself, so that no mistake of ours can.
const SCHEMA: &str = "
    CREATE TABLE chain (id BLOB NOT NULL, anchor_seq INTEGER NOT NULL, anchor_hash BLOB NOT NULL) STRICT;
    CREATE TABLE record (
      seq INTEGER PRIMARY KEY,
      hash BLOB NOT NULL,
      at_ms INTEGER NOT NULL,
      kind TEXT NOT NULL,
      user TEXT,
      server TEXT,
      body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX record_user ON record (user, seq) WHERE user IS NOT NULL;
    CREATE TRIGGER record_stays BEFORE UPDATE ON record BEGIN SELECT RAISE(ABORT, 'records are never changed'); END;
    CREATE TABLE checkpoint (
      number INTEGER PRIMARY KEY,
      seq INTEGER NOT NULL,
      hash BLOB NOT NULL,
      at_ms INTEGER NOT NULL,
      line TEXT NOT NULL
    ) STRICT;
    PRAGMA application_id = 1735290689;
    PRAGMA user_version = 1;";

/// Records per statement, largest first; each size is prepared once. Every statement is a round trip to the thread that the
/// driver keeps for the database, which would cost more than the record.
const ROWS: [usize; 5] = [256, 64, 16, 4, 1];

/// An audit in a file.
#[derive(Debug)]
pub struct SqliteStore {
    database: Database,
    path: PathBuf,
    chain: ChainId,
    /// The insert of each size.
    inserts: [Arc<str>; ROWS.len()],
}

async fn insert(conn: &mut SqliteConnection, sql: &Arc<str>, entries: &[StoredRecord]) -> Result<(), StoreError> {
    let mut insert = sqlx::query(AssertSqlSafe(sql.clone()));
    for StoredRecord { head, body, columns } in entries {
        insert = insert
            .bind(number(head.seq))
            .bind(head.hash.0.to_vec())
            .bind(columns.at_ms)
            .bind(&columns.kind)
            .bind(columns.user.as_deref())
            .bind(columns.server.as_deref())
            .bind(body);
    }
    insert.execute(conn).await.map_err(failed)?;
    Ok(())
}

async fn append(conn: &mut SqliteConnection, inserts: &[Arc<str>], entries: &[StoredRecord]) -> Result<(), StoreError> {
    // Immediate: a concurrent writer waits here, not in the middle of the transaction.
    let mut all = conn.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let mut left = entries;
    for (rows, sql) in ROWS.into_iter().zip(inserts) {
        while let Some((together, rest)) = left.split_at_checked(rows) {
            insert(&mut all, sql, together).await?;
            left = rest;
        }
    }
    all.commit().await.map_err(failed)
}

async fn keep(conn: &mut SqliteConnection, checkpoint: &KeptCheckpoint) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO checkpoint (number, seq, hash, at_ms, line) VALUES (?,?,?,?,?)")
        .bind(number(checkpoint.number))
        .bind(number(checkpoint.head.seq))
        .bind(checkpoint.head.hash.0.to_vec())
        .bind(checkpoint.not_younger_ms)
        .bind(&checkpoint.line)
        .execute(conn)
        .await
        .map_err(failed)?;
    Ok(())
}

async fn trim(conn: &mut SqliteConnection, upto: Head) -> Result<(), StoreError> {
    let seq = number(upto.seq);
    let mut all = conn.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    sqlx::query("DELETE FROM record WHERE seq <= ?").bind(seq).execute(&mut *all).await.map_err(failed)?;
    sqlx::query("DELETE FROM checkpoint WHERE seq < ?").bind(seq).execute(&mut *all).await.map_err(failed)?;
    let anchor = sqlx::query("UPDATE chain SET anchor_seq = ?, anchor_hash = ?").bind(seq).bind(upto.hash.0.to_vec());
    anchor.execute(&mut *all).await.map_err(failed)?;
    all.commit().await.map_err(failed)
}

fn failed(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(cause) if cause.is_unique_violation() => StoreError::Conflict,
        _ if is_full(&error) => StoreError::Full(error.to_string()),
        _ if is_damaged(&error) => StoreError::Damaged(error.to_string()),
        _ => StoreError::Database(error.to_string()),
    }
}

/// The error for a database that cannot be used.
fn unusable(path: &Path, failure: Failure) -> StoreError {
    let failure = failure.explained(path);
    let has_no_room = failure.is_full();
    match failure {
        Failure::Database(error) => failed(error),
        Failure::File(error) if has_no_room => StoreError::Full(error.to_string()),
        Failure::File(error) => StoreError::Database(format!("{}: {error}", path.display())),
        Failure::Descriptors(_) | Failure::Displaced(_) => StoreError::Database(failure.to_string()),
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn head(row: &SqliteRow, seq: &str, hash: &str) -> Result<Head, StoreError> {
    let bytes: Vec<u8> = row.try_get(hash).map_err(failed)?;
    let hash = RecordHash::from_bytes(&bytes).ok_or_else(|| StoreError::Database("a hash does not have 32 bytes".to_owned()))?;
    let seq: i64 = row.try_get(seq).map_err(failed)?;
    Ok(Head { seq: u64::try_from(seq).unwrap_or(0), hash })
}

fn kept_checkpoint(row: &SqliteRow) -> Result<KeptCheckpoint, StoreError> {
    let number: i64 = row.try_get("number").map_err(failed)?;
    Ok(KeptCheckpoint {
        number: u64::try_from(number).unwrap_or(0),
        head: head(row, "seq", "hash")?,
        not_younger_ms: row.try_get("at_ms").map_err(failed)?,
        line: row.try_get("line").map_err(failed)?,
    })
}

impl SqliteStore {
    /// Opens an audit (mode 0640), or begins one with this chain id where there is none. Beyond `max_bytes` nothing more is
    /// taken, rather than anything lost in silence.
    ///
    /// # Errors
    /// When the file cannot be used or is something else.
    pub async fn open(path: &Path, max_bytes: u64) -> Result<Self, StoreError> {
        let most_pages = (max_bytes / u64::from(PAGE_BYTES)).max(64);
        let options = durable(path, CACHE_KIB).pragma("max_page_count", most_pages.to_string());
        let mut opened = Opened::to_write(path, options).await.map_err(|failure| unusable(path, failure))?;
        let fresh: i64 = sqlx::query("SELECT count(*) AS n FROM sqlite_schema")
            .fetch_one(opened.conn())
            .await
            .and_then(|row| row.try_get("n"))
            .map_err(failed)?;
        if fresh == 0 {
            Self::begin(opened.conn()).await?;
        }
        Self::ours(opened, path).await
    }

    /// Opens an audit to look at it: nothing is written.
    ///
    /// # Errors
    /// When there is none, or the file is something else.
    pub async fn read(path: &Path) -> Result<Self, StoreError> {
        let options = durable(path, CACHE_KIB).read_only(true);
        let opened = Opened::with(path, options).await.map_err(|failure| unusable(path, failure))?;
        Self::ours(opened, path).await
    }

    async fn begin(conn: &mut SqliteConnection) -> Result<(), StoreError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| StoreError::Database("the system gives no random bytes".to_owned()))?;
        let start = ChainId(id).start();
        let mut all = conn.begin().await.map_err(failed)?;
        sqlx::raw_sql(SCHEMA).execute(&mut *all).await.map_err(failed)?;
        let insert =
            sqlx::query("INSERT INTO chain (id, anchor_seq, anchor_hash) VALUES (?, 0, ?)").bind(id.to_vec()).bind(start.hash.0.to_vec());
        insert.execute(&mut *all).await.map_err(failed)?;
        all.commit().await.map_err(failed)
    }

    async fn ours(mut opened: Opened, path: &Path) -> Result<Self, StoreError> {
        let foreign = || StoreError::Foreign(path.display().to_string());
        let (application, _) = identity(opened.conn()).await.map_err(|error| unusable(path, error.into()))?;
        if application != APPLICATION_ID {
            return Err(foreign());
        }
        let row = sqlx::query("SELECT id FROM chain").fetch_one(opened.conn()).await.map_err(failed)?;
        let id: Vec<u8> = row.try_get("id").map_err(failed)?;
        let inserts = ROWS.map(|rows| {
            let values = vec!["(?,?,?,?,?,?,?)"; rows].join(",");
            format!("INSERT INTO record (seq, hash, at_ms, kind, user, server, body) VALUES {values}").into()
        });
        let chain = ChainId(id.try_into().map_err(|_| foreign())?);
        let database = opened.settled().map_err(|failure| unusable(path, failure))?;
        Ok(Self { database, path: path.to_owned(), chain, inserts })
    }

    async fn sound(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        let Self { database, path, .. } = self;
        database.sound().await.map_err(|failure| unusable(path, failure))
    }

    /// Notes the result of a write: after a failure the connection is suspect.
    fn judged(&mut self, written: Result<(), StoreError>) -> Result<(), StoreError> {
        if matches!(written, Err(StoreError::Database(_) | StoreError::Full(_) | StoreError::Damaged(_) | StoreError::Foreign(_))) {
            self.database.is_suspect();
        }
        written
    }
}

impl Store for SqliteStore {
    fn chain(&self) -> ChainId {
        self.chain
    }

    fn anchor(&mut self) -> Stored<'_, Head> {
        Box::pin(async move {
            let conn = self.sound().await?;
            let row = sqlx::query("SELECT anchor_seq, anchor_hash FROM chain").fetch_one(conn).await.map_err(failed)?;
            head(&row, "anchor_seq", "anchor_hash")
        })
    }

    fn head(&mut self) -> Stored<'_, Head> {
        Box::pin(async move {
            let newest = sqlx::query("SELECT seq, hash FROM record ORDER BY seq DESC LIMIT 1");
            match newest.fetch_optional(self.sound().await?).await.map_err(failed)? {
                Some(row) => head(&row, "seq", "hash"),
                None => self.anchor().await,
            }
        })
    }

    fn append<'a>(&'a mut self, entries: &'a [StoredRecord]) -> Stored<'a, ()> {
        Box::pin(async move {
            self.sound().await?;
            let appended = append(self.database.conn(), &self.inserts, entries).await;
            self.judged(appended)
        })
    }

    fn after(&mut self, seq: u64, limit: u32) -> Stored<'_, Vec<StoredRecord>> {
        Box::pin(async move {
            let select = sqlx::query("SELECT seq, hash, at_ms, kind, user, server, body FROM record WHERE seq > ? ORDER BY seq LIMIT ?");
            let rows = select.bind(number(seq)).bind(limit).fetch_all(self.sound().await?).await.map_err(failed)?;
            let entry = |row: &SqliteRow| {
                let columns = Columns {
                    at_ms: row.try_get("at_ms").map_err(failed)?,
                    kind: row.try_get("kind").map_err(failed)?,
                    user: row.try_get("user").map_err(failed)?,
                    server: row.try_get("server").map_err(failed)?,
                };
                Ok(StoredRecord { head: head(row, "seq", "hash")?, body: row.try_get("body").map_err(failed)?, columns })
            };
            rows.iter().map(entry).collect()
        })
    }

    fn upto(&mut self, seq: u64) -> Stored<'_, u64> {
        Box::pin(async move {
            let select = sqlx::query("SELECT count(*) AS n FROM record WHERE seq <= ?").bind(number(seq));
            let row = select.fetch_one(self.sound().await?).await.map_err(failed)?;
            let count: i64 = row.try_get("n").map_err(failed)?;
            Ok(u64::try_from(count).unwrap_or(0))
        })
    }

    fn keep<'a>(&'a mut self, checkpoint: &'a KeptCheckpoint) -> Stored<'a, ()> {
        Box::pin(async move {
            self.sound().await?;
            let kept = keep(self.database.conn(), checkpoint).await;
            self.judged(kept)
        })
    }

    fn last_checkpoint(&mut self) -> Stored<'_, Option<KeptCheckpoint>> {
        Box::pin(async move {
            let select = sqlx::query("SELECT number, seq, hash, at_ms, line FROM checkpoint ORDER BY number DESC LIMIT 1");
            let last = select.fetch_optional(self.sound().await?).await.map_err(failed)?;
            last.as_ref().map(kept_checkpoint).transpose()
        })
    }

    fn all_older(&mut self, before_ms: i64, now_ms: i64) -> Stored<'_, Option<KeptCheckpoint>> {
        Box::pin(async move {
            // The inner one stops at the first record that is kept: mostly the first of all.
            let select = sqlx::query(
                "SELECT number, seq, hash, at_ms, line FROM checkpoint WHERE at_ms <= ? AND seq < coalesce(
                   (SELECT seq FROM record WHERE at_ms > ? AND at_ms <= ? ORDER BY seq LIMIT 1), 9223372036854775807)
                 ORDER BY number DESC LIMIT 1",
            );
            let select = select.bind(before_ms).bind(before_ms).bind(now_ms);
            let last = select.fetch_optional(self.sound().await?).await.map_err(failed)?;
            last.as_ref().map(kept_checkpoint).transpose()
        })
    }

    fn checkpoints(&mut self) -> Stored<'_, Vec<String>> {
        Box::pin(async move {
            let rows = sqlx::query("SELECT line FROM checkpoint ORDER BY number").fetch_all(self.sound().await?).await.map_err(failed)?;
            rows.iter().map(|row| row.try_get("line").map_err(failed)).collect()
        })
    }

    fn trim(&mut self, upto: Head) -> Stored<'_, ()> {
        Box::pin(async move {
            self.sound().await?;
            let trimmed = trim(self.database.conn(), upto).await;
            self.judged(trimmed)
        })
    }

    fn is_in_place(&self) -> bool {
        self.database.look().is_ok()
    }

    fn close(self: Box<Self>) -> Stored<'static, ()> {
        Box::pin(async move { self.database.close().await.map_err(failed) })
    }
}
