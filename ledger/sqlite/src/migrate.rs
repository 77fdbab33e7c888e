//! Recognition of our own files, and migration of older schemas.

use gnomon_database::identity;
use gnomon_ledger_model::OpenError;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use std::path::Path;

/// The tables of one kind of file.
#[derive(Debug)]
pub(crate) struct Schema {
    /// Marks the file as ours, so that we never write into another program's database.
    pub application_id: i64,
    /// Step n leads from version n to version n + 1. A released step is never edited; a change is a new one.
    pub steps: &'static [&'static str],
}

impl Schema {
    /// The version this gnomon writes.
    pub const fn version(&self) -> i64 {
        self.steps.len() as i64
    }

    /// Brings the database to [`Schema::version`], whole or not at all.
    pub async fn migrate(&self, conn: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
        let at = || path.display().to_string();
        let database = |source: sqlx::Error| crate::not_opened(path, source);
        let known = self.version();
        if identity(conn).await.map_err(database)? == (self.application_id, known) {
            return Ok(());
        }
        // One who migrates holds the others up, who then find it done.
        let mut tx = conn.begin_with("BEGIN IMMEDIATE").await.map_err(database)?;
        let (application, found) = identity(&mut tx).await.map_err(database)?;
        let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *tx).await.map_err(database)?;
        if application != self.application_id && (tables > 0 || application != 0) {
            return Err(OpenError::NotALedger { at: at() });
        }
        if found > known {
            let anew = format!("move it, {0}-wal and {0}-shm away together to begin anew", at());
            return Err(OpenError::NewerSchema { at: at(), anew, found, known });
        }
        for (_, sql) in (0i64..).zip(self.steps).filter(|(step, _)| *step >= found) {
            sqlx::raw_sql(*sql).execute(&mut *tx).await.map_err(database)?;
        }
        let mark = format!("PRAGMA application_id = {}; PRAGMA user_version = {known};", self.application_id);
        sqlx::raw_sql(AssertSqlSafe(mark)).execute(&mut *tx).await.map_err(database)?;
        tx.commit().await.map_err(database)
    }
}
