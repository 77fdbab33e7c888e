//! Sums by the hour, as they are kept and found; what is unusual among them is judged elsewhere.

use gnomon_ledger_model::{
    MAX_VOLUME_PAIRS,
    volume::{FLOOR_BYTES, FLOOR_REQUESTS, KnownBy, Pair, Volume, Volumes},
};
use sqlx::SqliteConnection;
use std::ops::Range;

/// The stored number of a pair without a known user: all those together.
const OTHERS: i64 = -1;

fn number(pair: &Pair) -> i64 {
    pair.known_by.map_or(OTHERS, KnownBy::number)
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
        .bind(if user.is_empty() { OTHERS } else { key.known_by.number() })
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

/// The earliest hour from this one on.
pub(super) async fn oldest(conn: &mut SqliteConnection, from: i64) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT min(hour) FROM volume WHERE hour >= ?").bind(from).fetch_one(conn).await
}

/// Sums of an hour that are not small, of pairs that were not reported lately.
pub(super) async fn busiest(
    conn: &mut SqliteConnection,
    hour: i64,
    told_after: i64,
    limit: usize,
) -> Result<Vec<(Pair, Volume)>, sqlx::Error> {
    let rows: Vec<(i64, String, String, i64, i64)> = sqlx::query_as(
        "SELECT known_by, user, server, requests, bytes FROM volume AS now WHERE hour = ?1 AND (requests > ?2 OR bytes > ?3)
           AND NOT EXISTS (SELECT 1 FROM volume AS told WHERE told.known_by = now.known_by AND told.user = now.user
             AND told.server = now.server AND told.hour > ?4 AND told.told = 1)
         ORDER BY requests DESC, user, server LIMIT ?5",
    )
    .bind(hour)
    .bind(FLOOR_REQUESTS)
    .bind(FLOOR_BYTES)
    .bind(told_after)
    .bind(limit as i64)
    .fetch_all(conn)
    .await?;
    let found = |(known_by, user, server, requests, bytes)| {
        (Pair { known_by: KnownBy::of_number(known_by), user, server }, Volume { requests, bytes })
    };
    Ok(rows.into_iter().map(found).collect())
}

/// The sums of a pair, or of all, in these hours.
pub(super) async fn hours(conn: &mut SqliteConnection, pair: Option<&Pair>, hours: Range<i64>) -> Result<Vec<(i64, Volume)>, sqlx::Error> {
    let rows: Vec<(i64, i64, i64)> = match pair {
        Some(pair) => {
            sqlx::query_as(
                "SELECT hour, requests, bytes FROM volume WHERE known_by = ? AND user = ? AND server = ? AND hour >= ? AND hour < ? ORDER BY hour",
            )
            .bind(number(pair))
            .bind(&pair.user)
            .bind(&pair.server)
            .bind(hours.start)
            .bind(hours.end)
            .fetch_all(conn)
            .await?
        }
        None => {
            sqlx::query_as("SELECT hour, requests, bytes FROM volume WHERE hour >= ? AND hour < ? ORDER BY hour")
                .bind(hours.start)
                .bind(hours.end)
                .fetch_all(conn)
                .await?
        }
    };
    Ok(rows.into_iter().map(|(hour, requests, bytes)| (hour, Volume { requests, bytes })).collect())
}

/// Records that a pair's hour was reported.
pub(super) async fn tell(conn: &mut SqliteConnection, pair: &Pair, hour: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE volume SET told = 1 WHERE known_by = ? AND user = ? AND server = ? AND hour = ?")
        .bind(number(pair))
        .bind(&pair.user)
        .bind(&pair.server)
        .bind(hour)
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets the sums before this hour.
pub(super) async fn forget(conn: &mut SqliteConnection, before: i64) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM volume WHERE hour < ?").bind(before).execute(conn).await?;
    Ok(())
}
