//! Finding events by name and by what they have in common, without an index on any of it: ids carry
//! their time, and `seq` rises with time.

use super::query::{EventRow, SqliteReader, event};
use gnomon_ledger_model::{IdPrefix, MAX_PAGE, NEAR_EVENTS, Names, OUTCOME_EVENTS, STORY_AFTER_MS, STORY_BEFORE_MS, StoredEvent};

/// The most that the clock may have been set back while events were recorded, milliseconds: a search by time begins so much earlier.
const CLOCK_SLACK_MS: i64 = 600_000;

impl SqliteReader {
    /// The number of the first event at that moment or later, if none is earlier than those before it;
    /// one behind the last if all are earlier.
    async fn first_at(&mut self, at_ms: i64) -> Result<i64, sqlx::Error> {
        let (mut low, mut high): (i64, i64) =
            sqlx::query_as("SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) + 1 FROM event").fetch_one(&mut self.conn).await?;
        while low < high {
            let middle = low + (high - low) / 2;
            let found: Option<(i64, i64)> = sqlx::query_as("SELECT seq, ts FROM event WHERE seq >= ? ORDER BY seq LIMIT 1")
                .bind(middle)
                .fetch_optional(&mut self.conn)
                .await?;
            match found {
                Some((seq, ts)) if ts < at_ms => low = seq + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// The number from which to search for events at or after that moment.
    pub(super) async fn begin_at(&mut self, since_ms: i64) -> Result<i64, sqlx::Error> {
        self.first_at(since_ms.saturating_sub(CLOCK_SLACK_MS)).await
    }

    /// The number up to which to search for events before that moment.
    pub(super) async fn end_at(&mut self, until_ms: i64) -> Result<i64, sqlx::Error> {
        self.first_at(until_ms.saturating_add(CLOCK_SLACK_MS)).await
    }

    /// Events whose id begins so, at most `limit`.
    pub(super) async fn named(&mut self, prefix: &IdPrefix, limit: usize) -> Result<Vec<StoredEvent>, sqlx::Error> {
        let (begin, end) = (self.begin_at(prefix.from_ms).await?, self.end_at(prefix.to_ms).await?);
        let rows: Vec<EventRow> = sqlx::query_as(
            "SELECT seq, ts, json FROM event WHERE seq >= ? AND seq < ? AND ts BETWEEN ? AND ?
               AND substr(json_extract(json, '$.\"event.id\"'), 1, ?) = ? ORDER BY seq LIMIT ?",
        )
        .bind(begin)
        .bind(end)
        .bind(prefix.from_ms)
        .bind(prefix.to_ms)
        .bind(prefix.text.len() as i64)
        .bind(&prefix.text)
        .bind(limit as i64)
        .fetch_all(&mut self.conn)
        .await?;
        Ok(rows.into_iter().map(event).collect())
    }

    /// Numbers of bursts whose id begins so, as (id, number of the first event).
    pub(super) async fn bursts_named(&mut self, prefix: &IdPrefix, limit: usize) -> Result<Vec<(String, i64)>, sqlx::Error> {
        // No hexadecimal digit nor hyphen comes after `g`.
        let found = sqlx::query_as("SELECT id, first_seq FROM incident WHERE id >= ? AND id < ? ORDER BY id LIMIT ?")
            .bind(&prefix.text)
            .bind(format!("{}g", prefix.text))
            .bind(limit.min(MAX_PAGE) as i64)
            .fetch_all(&mut self.conn)
            .await?;
        Ok(found)
    }

    /// The event of that number.
    pub(super) async fn numbered(&mut self, seq: i64) -> Result<Option<StoredEvent>, sqlx::Error> {
        let row: Option<EventRow> =
            sqlx::query_as("SELECT seq, ts, json FROM event WHERE seq = ?").bind(seq).fetch_optional(&mut self.conn).await?;
        Ok(row.map(event))
    }

    /// Events that share a name with one, the nearest of them.
    pub(super) async fn around(&mut self, of: &StoredEvent, names: &Names, limit: usize) -> Result<Vec<StoredEvent>, sqlx::Error> {
        let rows: Vec<EventRow> = sqlx::query_as(
            "SELECT seq, ts, json FROM event
             WHERE seq BETWEEN ?1 AND ?2 AND ts BETWEEN ?3 AND ?4 AND seq != ?5 AND
               (json_extract(json, '$.\"gnomon.observation.id\"') = ?6 OR json_extract(json, '$.\"gnomon.flow.id\"') = ?7
                OR json_extract(json, '$.\"mcp.session.id\"') = ?8 OR json_extract(json, '$.\"process.pid\"') = ?9)
             ORDER BY abs(seq - ?5) LIMIT ?10",
        )
        .bind(of.seq - NEAR_EVENTS)
        .bind(of.seq + NEAR_EVENTS)
        .bind(of.at_ms - STORY_BEFORE_MS)
        .bind(of.at_ms + STORY_AFTER_MS)
        .bind(of.seq)
        .bind(&names.call)
        .bind(&names.flow)
        .bind(&names.session)
        .bind(names.pid)
        .bind(limit as i64)
        .fetch_all(&mut self.conn)
        .await?;
        let mut nearest: Vec<StoredEvent> = rows.into_iter().map(event).collect();
        nearest.sort_by_key(|event| event.seq);
        Ok(nearest)
    }

    /// The outcome of a call after its event.
    pub(super) async fn outcome_of(&mut self, of: &StoredEvent, call: &str) -> Result<Option<StoredEvent>, sqlx::Error> {
        let row: Option<EventRow> = sqlx::query_as(
            "SELECT seq, ts, json FROM event WHERE seq > ?1 AND seq <= ?2 AND kind = 'outcome'
               AND json_extract(json, '$.\"gnomon.observation.id\"') = ?3 ORDER BY seq LIMIT 1",
        )
        .bind(of.seq)
        .bind(of.seq + OUTCOME_EVENTS)
        .bind(call)
        .fetch_optional(&mut self.conn)
        .await?;
        Ok(row.map(event))
    }
}
