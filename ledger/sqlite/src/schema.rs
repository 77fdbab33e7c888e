//! The tables, version by version. A released migration is never edited; a change is a new one.

use gnomon_ledger_model::OpenError;
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
    // When a tool was first offered, for what is new; sums by the hour, for what is unusual. What was there
    // before counts as old.
    "ALTER TABLE server_name ADD COLUMN first_ts INTEGER NOT NULL DEFAULT 0;
     CREATE TABLE volume (
       known_by INTEGER NOT NULL,
       user TEXT NOT NULL,
       server TEXT NOT NULL,
       hour INTEGER NOT NULL,
       requests INTEGER NOT NULL,
       bytes INTEGER NOT NULL,
       told INTEGER NOT NULL,
       PRIMARY KEY (known_by, user, server, hour)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX volume_hour ON volume (hour);",
];

/// The schema this gnomon writes.
pub(crate) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Brings the database to [`VERSION`].
pub(crate) async fn migrate(conn: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let at = || path.display().to_string();
    let database = |source: sqlx::Error| OpenError::Database { at: at(), source: source.into() };
    let (application, found) = identity(conn).await.map_err(database)?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *conn).await.map_err(database)?;
    if application != APPLICATION_ID && (tables > 0 || application != 0) {
        return Err(OpenError::NotALedger { at: at() });
    }
    if found > VERSION {
        return Err(OpenError::NewerSchema { at: at(), found, known: VERSION });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ledger_of_the_first_schema_is_brought_up_to_date_and_keeps_what_it_has() {
        let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let mark = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;");
        for sql in [MIGRATIONS[0].to_owned(), mark, "INSERT INTO server VALUES (1,'a',443,'',1,1,1,0,NULL,NULL,NULL,2,NULL)".to_owned()] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
        }
        sqlx::query("INSERT INTO server_name (server, what, name) VALUES (1, 'tool', 'old')").execute(&mut conn).await.unwrap();
        migrate(&mut conn, Path::new("ledger.sqlite")).await.unwrap();
        assert_eq!(identity(&mut conn).await.unwrap(), (APPLICATION_ID, VERSION));
        let kept: (String, i64) = sqlx::query_as("SELECT name, first_ts FROM server_name").fetch_one(&mut conn).await.unwrap();
        assert_eq!(kept, ("old".to_owned(), 0));
        sqlx::query("SELECT * FROM volume").fetch_all(&mut conn).await.unwrap();
        migrate(&mut conn, Path::new("ledger.sqlite")).await.unwrap();
    }
}
