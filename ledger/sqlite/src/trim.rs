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

/// Which of the oldest events are deleted.
#[derive(Clone, Copy, Debug)]
enum Oldest {
    /// Those before the cutoff, up to the first that is kept. One that is of after `now_ms` was written while the clock was ahead, and keeps no
    /// other from being deleted.
    Before { cutoff_ms: i64, now_ms: i64 },
    /// A part of them.
    ToMakeRoom,
}

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
            if self.delete_oldest(Oldest::ToMakeRoom).await? == 0 {
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
        let oldest: Option<i64> = sqlx::query_scalar("SELECT min(ts) FROM (SELECT ts FROM event ORDER BY seq LIMIT ?)")
            .bind(STEP_ROWS)
            .fetch_one(self.database.conn())
            .await?;
        if oldest.is_some_and(|ts| ts < cutoff_ms) { self.delete_oldest(Oldest::Before { cutoff_ms, now_ms }).await } else { Ok(0) }
    }

    /// Deletes of the oldest rows those that are meant, and incidents that have no events left.
    async fn delete_oldest(&mut self, oldest: Oldest) -> Result<u64, sqlx::Error> {
        let mut tx = self.database.conn().begin().await?;
        let delete = match oldest {
            Oldest::Before { cutoff_ms, now_ms } => {
                // The first that is kept, if it is among the oldest: what came after it is not older, whatever the clock said.
                let kept: Option<i64> =
                    sqlx::query_scalar("SELECT min(seq) FROM (SELECT seq, ts FROM event ORDER BY seq LIMIT ?) WHERE ts >= ? AND ts <= ?")
                        .bind(STEP_ROWS)
                        .bind(cutoff_ms)
                        .bind(now_ms)
                        .fetch_one(&mut *tx)
                        .await?;
                let sql = "DELETE FROM event WHERE seq IN (SELECT seq FROM event ORDER BY seq LIMIT ?) AND ts < ? AND seq < ?";
                sqlx::query(sql).bind(STEP_ROWS).bind(cutoff_ms).bind(kept.unwrap_or(i64::MAX))
            }
            Oldest::ToMakeRoom => {
                let rows: i64 = sqlx::query_scalar("SELECT coalesce(max(seq) - min(seq) + 1, 0) FROM event").fetch_one(&mut *tx).await?;
                // A sixteenth when little is kept, so that a small bound does not empty the ledger.
                let step = (rows / 16).clamp(1, STEP_ROWS);
                sqlx::query("DELETE FROM event WHERE seq IN (SELECT seq FROM event ORDER BY seq LIMIT ?)").bind(step)
            }
        };
        let deleted = delete.execute(&mut *tx).await?.rows_affected();
        // Incidents older than all events are removed.
        sqlx::query("DELETE FROM incident WHERE last_seq < (SELECT coalesce(min(seq), 9223372036854775807) FROM event)")
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        match oldest {
            Oldest::Before { .. } => self.trimmed.forgotten.age += deleted,
            Oldest::ToMakeRoom => self.trimmed.forgotten.size += deleted,
        }
        Ok(deleted)
    }
}
