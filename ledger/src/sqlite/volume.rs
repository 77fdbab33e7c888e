//! Sums by the hour, and what is unusual among them.

use super::Store;
use crate::volume::{
    FLOOR_BYTES, FLOOR_REQUESTS, MAX_VOLUME_PAIRS, MIN_ACTIVE_HOURS, Unusual, VOLUME_HISTORY_HOURS, VOLUME_MIN_HISTORY_HOURS, Volume,
    Volumes, usual,
};
use sqlx::SqliteConnection;
use std::time::{Duration, Instant};

/// How often the hour that runs is looked at; one that is over is looked at once more.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Most users and servers that are judged at one look, those with the most requests first.
const MAX_JUDGED: i64 = 64;
/// A user and server are told of once in so many hours.
const TELL_EVERY_HOURS: i64 = 24;

/// Where the looking stands.
#[derive(Default)]
pub(super) struct Watch {
    /// The hour that runs, by the events' clock.
    hour: Option<i64>,
    looked: Option<Instant>,
}

/// Adds a group's sums.
pub(super) async fn add(conn: &mut SqliteConnection, volumes: &Volumes) -> Result<(), sqlx::Error> {
    for (key, sum) in &volumes.sums {
        let update =
            "UPDATE volume SET requests = requests + ?, bytes = bytes + ? WHERE known_by = ? AND user = ? AND server = ? AND hour = ?";
        let changed = sqlx::query(update)
            .bind(sum.requests)
            .bind(sum.bytes)
            .bind(key.known_by.number())
            .bind(key.user.as_str())
            .bind(key.server.as_str())
            .bind(key.hour)
            .execute(&mut *conn)
            .await?;
        if changed.rows_affected() > 0 {
            continue;
        }
        let pairs: i64 = sqlx::query_scalar("SELECT count(*) FROM volume WHERE hour = ?").bind(key.hour).fetch_one(&mut *conn).await?;
        let (user, server) = if pairs < MAX_VOLUME_PAIRS { (key.user.as_str(), key.server.as_str()) } else { ("", "") };
        sqlx::query(
            "INSERT INTO volume (known_by, user, server, hour, requests, bytes, told) VALUES (?,?,?,?,?,?,0)
             ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, bytes = bytes + excluded.bytes",
        )
        .bind(if user.is_empty() { -1 } else { key.known_by.number() })
        .bind(user)
        .bind(server)
        .bind(key.hour)
        .bind(sum.requests)
        .bind(sum.bytes)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

impl Store {
    /// Looks for unusual volume where it is time to, after a group with events up to that hour.
    pub(crate) async fn look_at_volume(&mut self, latest_hour: Option<i64>) -> Result<Vec<Unusual>, sqlx::Error> {
        let Some(latest) = latest_hour else { return Ok(Vec::new()) };
        let running = *self.volume.hour.get_or_insert(latest);
        if latest > running {
            self.volume.hour = Some(latest);
            sqlx::query("DELETE FROM volume WHERE hour < ?").bind(latest - VOLUME_HISTORY_HOURS).execute(&mut self.conn).await?;
            return self.unusual_in(running).await;
        }
        if self.volume.looked.is_some_and(|last| last.elapsed() < LOOK_EVERY) {
            return Ok(Vec::new());
        }
        self.volume.looked = Some(Instant::now());
        self.unusual_in(running).await
    }

    /// What is unusual in that hour and was not told, and that it was told now.
    async fn unusual_in(&mut self, hour: i64) -> Result<Vec<Unusual>, sqlx::Error> {
        let begin = hour - VOLUME_HISTORY_HOURS;
        let oldest: Option<i64> =
            sqlx::query_scalar("SELECT min(hour) FROM volume WHERE hour >= ?").bind(begin).fetch_one(&mut self.conn).await?;
        if oldest.is_none_or(|oldest| hour - oldest < VOLUME_MIN_HISTORY_HOURS) {
            return Ok(Vec::new());
        }
        let candidates: Vec<(i64, String, String, i64, i64)> = sqlx::query_as(
            "SELECT known_by, user, server, requests, bytes FROM volume AS now WHERE hour = ?1 AND (requests > ?2 OR bytes > ?3)
               AND NOT EXISTS (SELECT 1 FROM volume AS told WHERE told.known_by = now.known_by AND told.user = now.user
                 AND told.server = now.server AND told.hour > ?4 AND told.told = 1)
             ORDER BY requests DESC LIMIT ?5",
        )
        .bind(hour)
        .bind(FLOOR_REQUESTS)
        .bind(FLOOR_BYTES)
        .bind(hour - TELL_EVERY_HOURS)
        .bind(MAX_JUDGED)
        .fetch_all(&mut self.conn)
        .await?;
        let mut of_host: Option<Volume> = None;
        let mut unusual = Vec::new();
        for (known_by, user, server, requests, bytes) in candidates {
            let own: Vec<(i64, i64, i64)> = sqlx::query_as(
                "SELECT hour, requests, bytes FROM volume WHERE known_by = ? AND user = ? AND server = ? AND hour >= ? AND hour < ? ORDER BY hour",
            )
            .bind(known_by)
            .bind(&user)
            .bind(&server)
            .bind(begin)
            .bind(hour)
            .fetch_all(&mut self.conn)
            .await?;
            let old_enough =
                own.len() >= MIN_ACTIVE_HOURS && own.first().is_some_and(|(first, ..)| hour - first >= VOLUME_MIN_HISTORY_HOURS);
            let expected = if old_enough {
                usual(&own.into_iter().map(|(_, requests, bytes)| Volume { requests, bytes }).collect::<Vec<_>>())
            } else {
                match of_host {
                    Some(known) => known,
                    None => *of_host.insert(self.usual_of_host(begin, hour).await?),
                }
            };
            let found = Volume { requests, bytes };
            if !found.is_small() && found.is_unusual(expected) {
                sqlx::query("UPDATE volume SET told = 1 WHERE known_by = ? AND user = ? AND server = ? AND hour = ?")
                    .bind(known_by)
                    .bind(&user)
                    .bind(&server)
                    .bind(hour)
                    .execute(&mut self.conn)
                    .await?;
                unusual.push(Unusual { hour, known_by, user, server, found, usual: expected });
            }
        }
        Ok(unusual)
    }

    /// What is usual for any user and server here.
    async fn usual_of_host(&mut self, begin: i64, end: i64) -> Result<Volume, sqlx::Error> {
        let hours: Vec<(i64, i64)> = sqlx::query_as("SELECT requests, bytes FROM volume WHERE hour >= ? AND hour < ?")
            .bind(begin)
            .bind(end)
            .fetch_all(&mut self.conn)
            .await?;
        Ok(usual(&hours.into_iter().map(|(requests, bytes)| Volume { requests, bytes }).collect::<Vec<_>>()))
    }
}
