//! Keeping the database within its bounds: the oldest events go first.
//!
//! Freed pages are used again by the next events, so a full ledger neither grows nor shrinks; only
//! a database above its bound (the bound was lowered) gives pages back to the file system.

use super::SqliteStore;
use gnomon_database::{Failure, PAGE_BYTES};
use gnomon_ledger_model::Forgotten;
use sqlx::Connection;
use std::time::{Duration, Instant};

/// Rows deleted in one go, so that no batch waits long behind a deletion.
const STEP_ROWS: i64 = 4096;
/// The interval at which the age of the oldest events is checked.
const RETENTION_EVERY: Duration = Duration::from_secs(1);
/// A batch takes at most so many times its text: rows, two indexes, and the log's copies of pages.
const ROOM: usize = 3;
/// Deletions per batch at most, should room never be enough.
const MAX_STEPS: usize = 64;

/// The times at which retention was last enforced.
#[derive(Default)]
pub(super) struct Schedule {
    retention: Option<Instant>,
    /// The events removed so far.
    pub(super) forgotten: Forgotten,
}

impl SqliteStore {
    /// Sees to it that `bytes` of lines fit, and that nothing is kept beyond its time.
    pub(super) async fn make_room(&mut self, bytes: usize, now_ms: i64) -> Result<(), sqlx::Error> {
        if self.trimmed.retention.is_none_or(|last| last.elapsed() >= RETENTION_EVERY) {
            self.trimmed.retention = Some(Instant::now());
            self.forget_step(now_ms).await?;
        }
        let needed = (bytes.saturating_mul(ROOM) / PAGE_BYTES as usize) as i64 + 32;
        for _ in 0..MAX_STEPS {
            let (pages, free): (i64, i64) =
                sqlx::query_as("SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count")
                    .fetch_one(self.database.conn())
                    .await?;
            if pages - free + needed <= self.max_pages {
                if pages > self.max_pages {
                    sqlx::query("PRAGMA incremental_vacuum(1024)").execute(self.database.conn()).await?;
                    self.database.shrinks();
                }
                return Ok(());
            }
            if self.delete_oldest(None).await? == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Deletes all that is older than the retention.
    pub(super) async fn forget_all(&mut self, now_ms: i64) -> Result<(), Failure> {
        self.database.sound().await?;
        loop {
            match self.forget_step(now_ms).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => {
                    self.database.is_suspect();
                    return Err(error.into());
                }
            }
        }
    }

    /// The latest moment among the newest events.
    pub(super) async fn newest(&mut self) -> Result<Option<i64>, sqlx::Error> {
        let newest = "SELECT max(ts) FROM (SELECT ts FROM event ORDER BY seq DESC LIMIT ?)";
        sqlx::query_scalar(newest).bind(STEP_ROWS).fetch_one(self.database.conn()).await
    }

    /// Deletes one step of events beyond the retention; returns the number of rows.
    async fn forget_step(&mut self, now_ms: i64) -> Result<u64, sqlx::Error> {
        let cutoff_ms = now_ms.saturating_sub(self.retention_ms);
        // Not the first alone: its clock may have been ahead.
        let oldest: Option<i64> = sqlx::query_scalar("SELECT min(ts) FROM (SELECT ts FROM event ORDER BY seq LIMIT ?)")
            .bind(STEP_ROWS)
            .fetch_one(self.database.conn())
            .await?;
        if oldest.is_some_and(|ts| ts < cutoff_ms) { self.delete_oldest(Some(cutoff_ms)).await } else { Ok(0) }
    }

    /// Deletes of the oldest rows those before the cutoff, and incidents that have no events left.
    async fn delete_oldest(&mut self, cutoff_ms: Option<i64>) -> Result<u64, sqlx::Error> {
        let mut tx = self.database.conn().begin().await?;
        let rows: i64 = sqlx::query_scalar("SELECT coalesce(max(seq) - min(seq) + 1, 0) FROM event").fetch_one(&mut *tx).await?;
        // A sixteenth when little is kept, so that a small bound does not empty the ledger.
        let step = if cutoff_ms.is_some() { STEP_ROWS } else { (rows / 16).clamp(1, STEP_ROWS) };
        let deleted = sqlx::query("DELETE FROM event WHERE seq IN (SELECT seq FROM event ORDER BY seq LIMIT ?) AND ts < ?")
            .bind(step)
            .bind(cutoff_ms.unwrap_or(i64::MAX))
            .execute(&mut *tx)
            .await?
            .rows_affected();
        // Incidents older than all events are removed.
        sqlx::query("DELETE FROM incident WHERE last_seq < (SELECT coalesce(min(seq), 9223372036854775807) FROM event)")
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        match cutoff_ms {
            Some(_) => self.trimmed.forgotten.age += deleted,
            None => self.trimmed.forgotten.size += deleted,
        }
        Ok(deleted)
    }
}
