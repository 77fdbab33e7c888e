//! Finding events by name and by what they have in common, without an index on any of it: ids carry
//! their time, and `seq` rises with time.

use super::Rows;
use crate::{
    ReadError,
    reader::{MAX_PAGE, StoredEvent},
    story::{IdPrefix, More, Names, Related, STORY_AFTER_MS, STORY_BEFORE_MS, STORY_EVENTS},
};

/// How far the clock may have been set back while events were recorded, milliseconds: a search by
/// time begins so much earlier.
const CLOCK_SLACK_MS: i64 = 600_000;
/// Most events that are looked at on each side of a story's.
const LOOKED_AT: i64 = 50_000;
/// Most events after a call that are looked at for its outcome.
const LOOKED_AT_FOR_OUTCOME: i64 = 500_000;

impl Rows {
    /// The number of the first event at that moment or later, if none is earlier than those before it;
    /// one behind the last if all are earlier.
    async fn first_at(&mut self, at_ms: i64) -> Result<i64, ReadError> {
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

    /// Where to begin to look for events from that moment on.
    pub(crate) async fn begin_at(&mut self, since_ms: i64) -> Result<i64, ReadError> {
        self.first_at(since_ms.saturating_sub(CLOCK_SLACK_MS)).await
    }

    /// Where to stop looking for events before that moment.
    pub(crate) async fn end_at(&mut self, until_ms: i64) -> Result<i64, ReadError> {
        self.first_at(until_ms.saturating_add(CLOCK_SLACK_MS)).await
    }

    /// Events whose id begins so, at most `limit`.
    pub(crate) async fn by_id(&mut self, prefix: &IdPrefix, limit: usize) -> Result<Vec<StoredEvent>, ReadError> {
        let (begin, end) = (self.begin_at(prefix.from_ms).await?, self.end_at(prefix.to_ms).await?);
        let rows: Vec<(i64, i64, String)> = sqlx::query_as(
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
        Ok(rows.into_iter().map(StoredEvent::from).collect())
    }

    /// Numbers of bursts whose id begins so, as (id, number of the first event).
    pub(crate) async fn bursts_by_id(&mut self, prefix: &IdPrefix, limit: usize) -> Result<Vec<(String, i64)>, ReadError> {
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
    pub(crate) async fn event(&mut self, seq: i64) -> Result<Option<StoredEvent>, ReadError> {
        let row: Option<(i64, i64, String)> =
            sqlx::query_as("SELECT seq, ts, json FROM event WHERE seq = ?").bind(seq).fetch_optional(&mut self.conn).await?;
        Ok(row.map(StoredEvent::from))
    }

    /// Events of the same call, and of the same client before and after it.
    pub(crate) async fn around(&mut self, event: &StoredEvent, names: &Names) -> Result<Around, ReadError> {
        let rows: Vec<(i64, i64, String)> = sqlx::query_as(
            "SELECT seq, ts, json FROM event
             WHERE seq BETWEEN ?1 AND ?2 AND ts BETWEEN ?3 AND ?4 AND seq != ?5 AND
               (json_extract(json, '$.\"gnomon.observation.id\"') = ?6 OR json_extract(json, '$.\"gnomon.flow.id\"') = ?7
                OR json_extract(json, '$.\"mcp.session.id\"') = ?8 OR json_extract(json, '$.\"process.pid\"') = ?9)
             ORDER BY abs(seq - ?5) LIMIT ?10",
        )
        .bind(event.seq - LOOKED_AT)
        .bind(event.seq + LOOKED_AT)
        .bind(event.at_ms - STORY_BEFORE_MS)
        .bind(event.at_ms + STORY_AFTER_MS)
        .bind(event.seq)
        .bind(&names.call)
        .bind(&names.flow)
        .bind(&names.session)
        .bind(names.pid)
        .bind(4 * STORY_EVENTS as i64)
        .fetch_all(&mut self.conn)
        .await?;
        let mut around = Around::default();
        if rows.len() >= 4 * STORY_EVENTS {
            around.more = More::Yes;
        }
        let mut nearest_last: Vec<StoredEvent> = rows.into_iter().map(StoredEvent::from).collect();
        nearest_last.sort_by_key(|row| row.seq);
        for row in nearest_last {
            let others = Names::of(&row.json);
            if names.is_same_call(&others) {
                around.sightings.push(row);
            } else if let Some(relation) = names.relation(&others) {
                let side = if row.seq < event.seq { &mut around.before } else { &mut around.after };
                side.push(Related { relation, event: row });
            }
        }
        // The nearest stay.
        let extra = around.before.len().saturating_sub(STORY_EVENTS);
        around.before.drain(..extra);
        if extra > 0 || around.after.len() > STORY_EVENTS {
            around.after.truncate(STORY_EVENTS);
            around.more = More::Yes;
        }
        Ok(around)
    }

    /// What became of a call after its event.
    pub(crate) async fn outcome(&mut self, event: &StoredEvent, call: &str) -> Result<Option<StoredEvent>, ReadError> {
        let row: Option<(i64, i64, String)> = sqlx::query_as(
            "SELECT seq, ts, json FROM event WHERE seq > ?1 AND seq <= ?2 AND kind = 'outcome'
               AND json_extract(json, '$.\"gnomon.observation.id\"') = ?3 ORDER BY seq LIMIT 1",
        )
        .bind(event.seq)
        .bind(event.seq + LOOKED_AT_FOR_OUTCOME)
        .bind(call)
        .fetch_optional(&mut self.conn)
        .await?;
        Ok(row.map(StoredEvent::from))
    }
}

/// What stands around an event.
#[derive(Default)]
pub(crate) struct Around {
    pub(crate) sightings: Vec<StoredEvent>,
    pub(crate) before: Vec<Related>,
    pub(crate) after: Vec<Related>,
    pub(crate) more: More,
}
