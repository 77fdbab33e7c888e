//! The tables, version by version.

use super::migrate::Schema;

/// A file of "gnom".
pub(crate) const SCHEMA: Schema = Schema {
    application_id: 0x676e_6f6d,
    steps: &[
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
        // Whether anybody ever reached a server. One that was called before counts as reached.
        "ALTER TABLE server ADD COLUMN unreached INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE server ADD COLUMN answered INTEGER NOT NULL DEFAULT 0;
     UPDATE server SET answered = calls > 0;",
    ],
};

#[cfg(test)]
mod tests {
    use super::SCHEMA;
    use gnomon_database::identity;
    use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
    use std::path::Path;

    #[tokio::test]
    async fn a_ledger_of_the_first_schema_is_brought_up_to_date_and_keeps_what_it_has() {
        let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let mark = format!("PRAGMA application_id = {}; PRAGMA user_version = 1;", SCHEMA.application_id);
        for sql in [
            SCHEMA.steps[0].to_owned(),
            mark,
            "INSERT INTO server VALUES (1,'a',443,'',1,1,0,0,NULL,NULL,NULL,2,NULL), (2,'b',443,'',1,1,1,0,NULL,NULL,NULL,2,NULL)"
                .to_owned(),
        ] {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.unwrap();
        }
        sqlx::query("INSERT INTO server_name (server, what, name) VALUES (1, 'tool', 'old')").execute(&mut conn).await.unwrap();
        SCHEMA.migrate(&mut conn, Path::new("ledger.sqlite")).await.unwrap();
        assert_eq!(identity(&mut conn).await.unwrap(), (SCHEMA.application_id, SCHEMA.version()));
        let kept: (String, i64) = sqlx::query_as("SELECT name, first_ts FROM server_name").fetch_one(&mut conn).await.unwrap();
        assert_eq!(kept, ("old".to_owned(), 0));
        let reached: Vec<(i64, bool)> =
            sqlx::query_as("SELECT unreached, answered FROM server ORDER BY id").fetch_all(&mut conn).await.unwrap();
        assert_eq!(reached, [(0, false), (0, true)], "what was called before was reached");
        sqlx::query("SELECT * FROM volume").fetch_all(&mut conn).await.unwrap();
        SCHEMA.migrate(&mut conn, Path::new("ledger.sqlite")).await.unwrap();
    }
}
