//! Changing the inventory: one update per touched server and group.

use gnomon_ledger_model::{
    Deltas, FirstSeen, MAX_CLIENTS, MAX_LISTENS, MAX_PATHS_PER_HOST, MAX_PROTOCOLS, MAX_SERVERS, MAX_TOOLS, MAX_USERS, ServerDelta,
    ServerKey,
};
use gnomon_observe::Confidence;
use hashbrown::HashSet;
use smol_str::SmolStr;
use sqlx::SqliteConnection;

/// The values of `server_name.what`.
pub(super) const CLIENT: &str = "client";
pub(super) const TOOL: &str = "tool";
pub(super) const PROTOCOL: &str = "protocol";
pub(super) const LISTENS: &str = "listens";
pub(super) const USER: &str = "user";

/// The fraction of a full inventory that makes room.
const EVICT: usize = MAX_SERVERS / 16;

/// The number of servers.
pub(super) async fn count(conn: &mut SqliteConnection) -> Result<usize, sqlx::Error> {
    let servers: i64 = sqlx::query_scalar("SELECT count(*) FROM server").fetch_one(conn).await?;
    Ok(usize::try_from(servers).unwrap_or(0))
}

/// The effect of a group's changes on the inventory.
pub(super) struct Applied {
    /// The number of servers now.
    pub(super) servers: usize,
    pub(super) first_seen: FirstSeen,
}

/// Applies a group's changes.
pub(super) async fn apply(conn: &mut SqliteConnection, deltas: &Deltas, mut servers: usize) -> Result<Applied, sqlx::Error> {
    let mut first_seen = FirstSeen::default();
    for (key, delta) in &deltas.servers {
        let id = match update(conn, key, delta).await? {
            Some(id) => id,
            // It tells what became of calls whose server is gone from here.
            None if !delta.makes_entry => continue,
            None => {
                let paths: i64 = sqlx::query_scalar("SELECT count(*) FROM server WHERE address = ? AND port = ?")
                    .bind(key.address.as_str())
                    .bind(key.port)
                    .fetch_one(&mut *conn)
                    .await?;
                let crowded = usize::try_from(paths).unwrap_or(0) >= MAX_PATHS_PER_HOST;
                let key = if crowded { ServerKey { path: SmolStr::default(), ..key.clone() } } else { key.clone() };
                match if crowded { update(conn, &key, delta).await? } else { None } {
                    Some(id) => id,
                    None => {
                        if servers >= MAX_SERVERS {
                            servers = evict(conn).await?;
                        }
                        servers += 1;
                        if !key.is_local() {
                            first_seen.add(delta.status());
                        }
                        insert(conn, &key, delta).await?
                    }
                }
            }
        };
        add_names(conn, id, CLIENT, &delta.clients, MAX_CLIENTS, delta.first_ms).await?;
        add_names(conn, id, TOOL, &delta.tools, MAX_TOOLS, delta.first_ms).await?;
        add_names(conn, id, PROTOCOL, &delta.protocols, MAX_PROTOCOLS, delta.first_ms).await?;
        add_names(conn, id, LISTENS, &delta.listens, MAX_LISTENS, delta.first_ms).await?;
        add_names(conn, id, USER, &delta.users, MAX_USERS, delta.first_ms).await?;
    }
    Ok(Applied { servers, first_seen })
}

/// The stored rank of a confidence: -1 for none, then in the enum's order.
fn rank(confidence: Option<Confidence>) -> i64 {
    confidence.map_or(-1, |c| c as i64)
}

async fn update(conn: &mut SqliteConnection, key: &ServerKey, delta: &ServerDelta) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "UPDATE server SET first_ts = min(first_ts, ?1), last_ts = max(last_ts, ?2), calls = max(0, calls + ?3), unreached = unreached + ?4,
           answered = max(answered, ?5), sanctioned = coalesce(?6, sanctioned), catalogue = coalesce(?7, catalogue), name = coalesce(?8, name),
           version = coalesce(?9, version), confidence = max(confidence, ?10),
           channel = iif(?11 = 'config' AND channel IS NOT NULL, channel, coalesce(?11, channel))
         WHERE address = ?12 AND port = ?13 AND path = ?14
         RETURNING id",
    )
    .bind(delta.first_ms)
    .bind(delta.last_ms)
    .bind(delta.calls)
    .bind(delta.unreached)
    .bind(delta.answered)
    .bind(delta.sanctioned)
    .bind(delta.catalogue.as_deref())
    .bind(delta.name.as_deref())
    .bind(delta.version.as_deref())
    .bind(rank(delta.confidence))
    .bind(delta.channel.as_deref())
    .bind(key.address.as_str())
    .bind(key.port)
    .bind(key.path.as_str())
    .fetch_optional(conn)
    .await
}

async fn insert(conn: &mut SqliteConnection, key: &ServerKey, delta: &ServerDelta) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "INSERT INTO server (first_ts, last_ts, calls, unreached, answered, sanctioned, catalogue, name, version, confidence, channel, address, port, path)
         VALUES (?,?,max(0,?),?,?,?,?,?,?,?,?,?,?,?) RETURNING id",
    )
    .bind(delta.first_ms)
    .bind(delta.last_ms)
    .bind(delta.calls)
    .bind(delta.unreached)
    .bind(delta.answered)
    .bind(delta.sanctioned)
    .bind(delta.catalogue.as_deref())
    .bind(delta.name.as_deref())
    .bind(delta.version.as_deref())
    .bind(rank(delta.confidence))
    .bind(delta.channel.as_deref())
    .bind(key.address.as_str())
    .bind(key.port)
    .bind(key.path.as_str())
    .fetch_one(conn)
    .await
}

/// Removes the servers of least confidence that were longest unseen; returns how many stay.
async fn evict(conn: &mut SqliteConnection) -> Result<usize, sqlx::Error> {
    sqlx::query("DELETE FROM server WHERE id IN (SELECT id FROM server ORDER BY confidence, last_ts LIMIT ?)")
        .bind(EVICT as i64)
        .execute(&mut *conn)
        .await?;
    count(conn).await
}

async fn add_names(
    conn: &mut SqliteConnection,
    server: i64,
    what: &'static str,
    names: &HashSet<SmolStr>,
    bound: usize,
    first_ms: i64,
) -> Result<(), sqlx::Error> {
    if names.is_empty() {
        return Ok(());
    }
    let names = serde_json::Value::from_iter(names.iter().map(SmolStr::as_str)).to_string();
    sqlx::query(
        "INSERT INTO server_name (server, what, name, first_ts)
         SELECT ?1, ?2, value, ?5 FROM json_each(?3)
         WHERE value NOT IN (SELECT name FROM server_name WHERE server = ?1 AND what = ?2)
         LIMIT max(0, ?4 - (SELECT count(*) FROM server_name WHERE server = ?1 AND what = ?2))",
    )
    .bind(server)
    .bind(what)
    .bind(names)
    .bind(bound as i64)
    .bind(first_ms)
    .execute(conn)
    .await?;
    Ok(())
}
