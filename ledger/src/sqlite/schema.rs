//! The tables, version by version. A released migration is never edited; a change is a new one.

use crate::LedgerError;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use std::path::Path;

/// "gnom": marks the file as ours, so that we never write into another program's database.
pub(crate) const APPLICATION_ID: i64 = 0x676e_6f6d;

/// Step n leads from schema n to schema n + 1.
const MIGRATIONS: &[&str] = &[
    // Few columns beside the line itself: those that filters name most. No index on time, since
    // `seq` rises with it; detections alone are worth an index.
    "CREATE TABLE event (
       seq INTEGER PRIMARY KEY AUTOINCREMENT,
       ts INTEGER NOT NULL,
       kind TEXT NOT NULL,
       rule TEXT,
       server TEXT,
       user TEXT,
       json TEXT NOT NULL
     ) STRICT;
     CREATE INDEX event_rule ON event (rule, seq) WHERE rule IS NOT NULL;
     CREATE TABLE incident (
       id TEXT NOT NULL PRIMARY KEY,
       rule TEXT NOT NULL,
       rule_name TEXT,
       level TEXT,
       action TEXT,
       client TEXT,
       server TEXT,
       first_ts INTEGER NOT NULL,
       last_ts INTEGER NOT NULL,
       events INTEGER NOT NULL,
       first_seq INTEGER NOT NULL,
       last_seq INTEGER NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX incident_last ON incident (last_seq);
     CREATE TABLE server (
       id INTEGER PRIMARY KEY,
       address TEXT NOT NULL,
       port INTEGER NOT NULL,
       path TEXT NOT NULL,
       first_ts INTEGER NOT NULL,
       last_ts INTEGER NOT NULL,
       calls INTEGER NOT NULL,
       sanctioned INTEGER,
       catalogue TEXT,
       name TEXT,
       version TEXT,
       confidence INTEGER NOT NULL,
       channel TEXT,
       UNIQUE (address, port, path)
     ) STRICT;
     CREATE TABLE server_name (
       server INTEGER NOT NULL REFERENCES server (id) ON DELETE CASCADE,
       what TEXT NOT NULL,
       name TEXT NOT NULL,
       PRIMARY KEY (server, what, name)
     ) STRICT, WITHOUT ROWID;",
];

/// The schema this gnomon writes.
pub(crate) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Brings the database to [`VERSION`].
pub(crate) async fn migrate(conn: &mut SqliteConnection, path: &Path) -> Result<(), LedgerError> {
    let database = |source| LedgerError::Database { path: path.to_owned(), source };
    let (application, found) = identity(conn).await.map_err(database)?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *conn).await.map_err(database)?;
    if application != APPLICATION_ID && (tables > 0 || application != 0) {
        return Err(LedgerError::NotALedger { path: path.to_owned() });
    }
    if found > VERSION {
        return Err(LedgerError::NewerSchema { path: path.to_owned(), found, known: VERSION });
    }
    for (step, sql) in (0i64..).zip(MIGRATIONS).filter(|(step, _)| *step >= found) {
        let done = async {
            let mut tx = conn.begin().await?;
            sqlx::raw_sql(*sql).execute(&mut *tx).await?;
            let mark = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {};", step + 1);
            sqlx::raw_sql(AssertSqlSafe(mark)).execute(&mut *tx).await?;
            tx.commit().await
        };
        done.await.map_err(database)?;
    }
    Ok(())
}

/// The file's application id and schema version.
pub(crate) async fn identity(conn: &mut SqliteConnection) -> Result<(i64, i64), sqlx::Error> {
    sqlx::query_as("SELECT application_id, user_version FROM pragma_application_id, pragma_user_version").fetch_one(conn).await
}
