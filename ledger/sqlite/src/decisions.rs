//! The journal of decisions in SQLite: a small database of its own, as the ledger's has one writer and people decide from other
//! processes. Its writers take turns: a transaction that writes begins as one, so that two cannot wait for each other.

use super::{
    migrate::Schema,
    not_opened,
    query::{readable, refused},
};
use gnomon_database::{Failure, Folder, create, identity, plain};
use gnomon_ledger_model::{Asked, DecidedBy, DecisionEntry, Decisions, KeptEntry, OpenError, Origin, ReadError, StoreError, Stored, Topic};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::{path::Path, time::Duration};

/// Timeout of a writer that waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// A file of "gnod".
const SCHEMA: Schema = Schema {
    application_id: 0x676e_6f64,
    steps: &["CREATE TABLE decision (
       number INTEGER PRIMARY KEY AUTOINCREMENT,
       topic TEXT NOT NULL,
       subject TEXT NOT NULL,
       at_ms INTEGER NOT NULL,
       user TEXT,
       login_uid INTEGER,
       uid INTEGER NOT NULL,
       reason TEXT,
       body TEXT,
       source TEXT,
       digest TEXT
     ) STRICT;
     CREATE INDEX decision_subject ON decision (topic, subject, number);
     CREATE INDEX decision_source ON decision (source, topic, subject, number) WHERE source IS NOT NULL;"],
};

const COLUMNS: &str = "number, topic, subject, at_ms, user, login_uid, uid, reason, body, source, digest";

/// Keeps decisions in a file.
pub struct SqliteDecisions {
    conn: SqliteConnection,
}

impl std::fmt::Debug for SqliteDecisions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteDecisions").finish_non_exhaustive()
    }
}

/// A row of [`COLUMNS`].
type Row = (i64, String, String, i64, Option<String>, Option<u32>, u32, Option<String>, Option<String>, Option<String>, Option<String>);

impl SqliteDecisions {
    /// Opens or creates the database. A file that is created has mode 0640 and, where root creates it, the owner of its folder, as does
    /// what SQLite puts beside it.
    ///
    /// # Errors
    /// When it cannot be written, is of a newer gnomon, of another program or damaged.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        create(path, Folder::OfAnother).map_err(|error| not_opened(path, Failure::File(error)))?;
        let options = options(path).synchronous(SqliteSynchronous::Full);
        let mut conn = options.connect().await.map_err(|error| not_opened(path, error))?;
        SCHEMA.migrate(&mut conn, path).await?;
        Ok(Self { conn })
    }

    /// Opens the database to read it; entries cannot be put.
    ///
    /// # Errors
    /// When it is missing, may not be read, or has another schema.
    pub async fn open_to_read(path: &Path) -> Result<Self, ReadError> {
        let at = || path.display().to_string();
        readable(path, Folder::OfAnother)?;
        let mut conn = options(path).read_only(true).connect().await.map_err(refused)?;
        let known = SCHEMA.version();
        match identity(&mut conn).await.map_err(refused)? {
            found if found == (SCHEMA.application_id, known) => Ok(Self { conn }),
            // The file is about to be created.
            (_, 0) => Err(ReadError::Missing { at: at() }),
            (_, found) => Err(ReadError::Schema { at: at(), found, known }),
        }
    }

    /// A journal that ends with this process.
    ///
    /// # Errors
    /// If memory cannot be allocated.
    pub async fn in_memory() -> Result<Self, OpenError> {
        let path = Path::new(":memory:");
        let options = SqliteConnectOptions::new().in_memory(true).disable_statement_logging();
        let mut conn = options.connect().await.map_err(|error| not_opened(Path::new("memory"), error))?;
        SCHEMA.migrate(&mut conn, path).await?;
        Ok(Self { conn })
    }

    async fn add(&mut self, entries: &[DecisionEntry]) -> Result<i64, sqlx::Error> {
        let mut tx = self.conn.begin_with("BEGIN IMMEDIATE").await?;
        for entry in entries {
            sqlx::query(
                "INSERT INTO decision (topic, subject, at_ms, user, login_uid, uid, reason, body, source, digest) VALUES (?,?,?,?,?,?,?,?,?,?)",
            )
            .bind(entry.topic.as_str())
            .bind(&entry.subject)
            .bind(entry.at_ms)
            .bind(&entry.by.user)
            .bind(entry.by.login_uid)
            .bind(entry.by.uid)
            .bind(&entry.reason)
            .bind(&entry.body)
            .bind(entry.origin.as_ref().map(|origin| &origin.source))
            .bind(entry.origin.as_ref().map(|origin| &origin.digest))
            .execute(&mut *tx)
            .await?;
        }
        let newest = newest(&mut tx).await?;
        tx.commit().await?;
        Ok(newest)
    }
}

/// Options without a write-ahead log: people decide seldom, and a reader needs no more than the right to read the file.
fn options(path: &Path) -> SqliteConnectOptions {
    plain(path, TURN).journal_mode(SqliteJournalMode::Delete)
}

async fn newest(conn: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT coalesce(max(number), 0) FROM decision").fetch_one(conn).await
}

fn kept(rows: Result<Vec<Row>, sqlx::Error>) -> Result<Vec<KeptEntry>, ReadError> {
    let entry = |(number, topic, subject, at_ms, user, login_uid, uid, reason, body, source, digest): Row| {
        let topic = Topic::of_word(&topic).ok_or(ReadError::BadRow { table: "decision", column: "topic", row: number })?;
        let origin = source.zip(digest).map(|(source, digest)| Origin { source, digest });
        let by = DecidedBy { user, login_uid, uid };
        Ok(KeptEntry { number, entry: DecisionEntry { topic, subject, at_ms, by, reason, body, origin } })
    };
    rows.map_err(refused)?.into_iter().map(entry).collect()
}

impl Decisions for SqliteDecisions {
    fn put<'a>(&'a mut self, entries: &'a [DecisionEntry]) -> Stored<'a, i64> {
        Box::pin(async move { self.add(entries).await.map_err(StoreError::new) })
    }

    fn newest(&mut self) -> Asked<'_, i64> {
        Box::pin(async move { newest(&mut self.conn).await.map_err(refused) })
    }

    fn after(&mut self, number: i64, limit: usize) -> Asked<'_, Vec<KeptEntry>> {
        Box::pin(async move {
            let sql = format!("SELECT {COLUMNS} FROM decision WHERE number > ? ORDER BY number LIMIT ?");
            kept(sqlx::query_as(AssertSqlSafe(sql)).bind(number).bind(limit as i64).fetch_all(&mut self.conn).await)
        })
    }

    fn standing(&mut self, topic: Topic) -> Asked<'_, Vec<KeptEntry>> {
        Box::pin(async move {
            let sql = format!(
                "SELECT {COLUMNS} FROM decision WHERE number IN (SELECT max(number) FROM decision WHERE topic = ? GROUP BY subject)
                   AND body IS NOT NULL ORDER BY subject"
            );
            kept(sqlx::query_as(AssertSqlSafe(sql)).bind(topic.as_str()).fetch_all(&mut self.conn).await)
        })
    }

    fn about<'a>(&'a mut self, topic: Topic, subject: &'a str) -> Asked<'a, Vec<KeptEntry>> {
        Box::pin(async move {
            let sql = format!("SELECT {COLUMNS} FROM decision WHERE topic = ? AND subject = ? ORDER BY number");
            kept(sqlx::query_as(AssertSqlSafe(sql)).bind(topic.as_str()).bind(subject).fetch_all(&mut self.conn).await)
        })
    }

    fn imported<'a>(&'a mut self, source: &'a str) -> Asked<'a, Vec<KeptEntry>> {
        Box::pin(async move {
            let sql = format!(
                "SELECT {COLUMNS} FROM decision WHERE number IN
                   (SELECT max(number) FROM decision WHERE source = ? GROUP BY topic, subject)"
            );
            let mut found = kept(sqlx::query_as(AssertSqlSafe(sql)).bind(source).fetch_all(&mut self.conn).await)?;
            found.sort_by(|a, b| (a.entry.topic, &a.entry.subject).cmp(&(b.entry.topic, &b.entry.subject)));
            Ok(found)
        })
    }

    fn close(self: Box<Self>) -> Stored<'static, ()> {
        Box::pin(async move { self.conn.close().await.map_err(StoreError::new) })
    }
}
