//! Reading: pages of events, the inventory, incidents.

use super::{conditions, inventory, schema};
use crate::{
    ReadError,
    inventory::{NewName, ServerRecord, ServerStatus},
    reader::{EventFilter, IncidentRecord, MAX_PAGE, Order, StoredEvent},
};
use gnomon_observe::Confidence;
use sqlx::{
    ConnectOptions, QueryBuilder, Row, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};
use std::{collections::HashMap, io::ErrorKind, path::Path, time::Duration};

/// A read-only connection.
pub(crate) struct Rows {
    pub(super) conn: SqliteConnection,
}

impl Rows {
    pub(crate) async fn open(path: &Path) -> Result<Self, ReadError> {
        std::fs::File::open(path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => ReadError::Missing { path: path.to_owned() },
            _ => ReadError::NotReadable { path: path.to_owned(), source },
        })?;
        let options =
            SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(Duration::from_secs(2)).disable_statement_logging();
        let opened = match Self::connect(&options).await {
            Ok(opened) => opened,
            // Someone who may not write beside a closed ledger cannot make the log's shared memory.
            // Without a log nobody writes, and the file can be read as it stands.
            Err(error) => {
                let mut wal = path.as_os_str().to_owned();
                wal.push("-wal");
                if Path::new(&wal).exists() {
                    return Err(error.into());
                }
                Self::connect(&options.immutable(true)).await?
            }
        };
        let (rows, application, found) = opened;
        if application != schema::APPLICATION_ID || found != schema::VERSION {
            return Err(ReadError::Schema { path: path.to_owned(), found, known: schema::VERSION });
        }
        Ok(rows)
    }

    async fn connect(options: &SqliteConnectOptions) -> Result<(Self, i64, i64), sqlx::Error> {
        let mut conn = options.connect().await?;
        let (application, found) = schema::identity(&mut conn).await?;
        Ok((Self { conn }, application, found))
    }

    /// The number of the newest event, 0 before the first.
    pub(crate) async fn last_seq(&mut self) -> Result<i64, ReadError> {
        Ok(sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM event").fetch_one(&mut self.conn).await?)
    }

    /// A page of events up to number `last`.
    pub(crate) async fn events(&mut self, filter: &EventFilter, order: Order, last: i64) -> Result<Vec<StoredEvent>, ReadError> {
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT seq, ts, json FROM event WHERE seq <= ");
        sql.push_bind(last);
        if let Some(after) = filter.after {
            sql.push(if order == Order::OldestFirst { " AND seq > " } else { " AND seq < " }).push_bind(after);
        }
        if let Some(since) = filter.since_ms {
            let begin = self.begin_at(since).await?;
            sql.push(" AND seq >= ").push_bind(begin).push(" AND ts >= ").push_bind(since);
        }
        if let Some(until) = filter.until_ms {
            let end = self.end_at(until).await?;
            sql.push(" AND seq < ").push_bind(end).push(" AND ts < ").push_bind(until);
        }
        if !filter.kinds.is_empty() {
            sql.push(" AND kind IN (");
            let mut kinds = sql.separated(", ");
            for kind in &filter.kinds {
                kinds.push_bind(kind.clone());
            }
            sql.push(")");
        }
        for condition in &filter.conditions {
            conditions::push(&mut sql, condition);
        }
        if let Some(rule) = &filter.rule {
            conditions::push_rule(&mut sql, rule);
        }
        sql.push(if order == Order::OldestFirst { " ORDER BY seq LIMIT " } else { " ORDER BY seq DESC LIMIT " });
        sql.push_bind(filter.limit.min(MAX_PAGE) as i64);
        let rows: Vec<(i64, i64, String)> = sql.build_query_as().fetch_all(&mut self.conn).await?;
        Ok(rows.into_iter().map(StoredEvent::from).collect())
    }

    pub(crate) async fn inventory(&mut self) -> Result<Vec<ServerRecord>, ReadError> {
        let mut names: HashMap<(i64, String), Vec<String>> = HashMap::new();
        let all: Vec<(i64, String, String)> =
            sqlx::query_as("SELECT server, what, name FROM server_name ORDER BY server, what, name").fetch_all(&mut self.conn).await?;
        for (server, what, name) in all {
            names.entry((server, what)).or_default().push(name);
        }
        let rows = sqlx::query("SELECT * FROM server ORDER BY last_ts DESC, id").fetch_all(&mut self.conn).await?;
        rows.iter().map(|row| server(row, &mut names)).collect()
    }

    /// Tools first seen from `since_ms` on and before `until_ms`, the latest first.
    pub(crate) async fn new_tools(&mut self, since_ms: i64, until_ms: i64, limit: usize) -> Result<Vec<NewName>, ReadError> {
        let rows: Vec<(String, i64, String, String, i64)> = sqlx::query_as(
            "SELECT address, port, path, server_name.name, server_name.first_ts FROM server_name JOIN server ON server.id = server_name.server
             WHERE what = ? AND server_name.first_ts >= ? AND server_name.first_ts < ? ORDER BY server_name.first_ts DESC LIMIT ?",
        )
        .bind(inventory::TOOL)
        .bind(since_ms)
        .bind(until_ms)
        .bind(limit as i64)
        .fetch_all(&mut self.conn)
        .await?;
        let port = |port: i64| u16::try_from(port).ok().filter(|port| *port != 0);
        let new = |(address, number, path, name, first_seen_ms)| NewName { address, port: port(number), path, name, first_seen_ms };
        Ok(rows.into_iter().map(new).collect())
    }

    pub(crate) async fn incidents(&mut self, limit: usize) -> Result<Vec<IncidentRecord>, ReadError> {
        let rows =
            sqlx::query("SELECT * FROM incident ORDER BY last_seq DESC LIMIT ?").bind(limit as i64).fetch_all(&mut self.conn).await?;
        rows.iter().map(incident).collect()
    }
}

fn server(row: &SqliteRow, names: &mut HashMap<(i64, String), Vec<String>>) -> Result<ServerRecord, ReadError> {
    let id: i64 = row.try_get("id")?;
    let bad = |column| ReadError::BadRow { table: "server", column, row: id };
    let mut take = |what: &str| names.remove(&(id, what.to_owned())).unwrap_or_default();
    let port: i64 = row.try_get("port")?;
    let confidence: i64 = row.try_get("confidence")?;
    let channel: Option<String> = row.try_get("channel")?;
    Ok(ServerRecord {
        address: row.try_get("address")?,
        port: Some(u16::try_from(port).map_err(|_| bad("port"))?).filter(|port| *port != 0),
        path: row.try_get("path")?,
        status: match row.try_get("sanctioned")? {
            Some(true) => ServerStatus::Sanctioned,
            Some(false) | None => ServerStatus::Shadow,
        },
        catalogue: row.try_get("catalogue")?,
        first_seen_ms: row.try_get("first_ts")?,
        last_seen_ms: row.try_get("last_ts")?,
        calls: u64::try_from(row.try_get::<i64, _>("calls")?).map_err(|_| bad("calls"))?,
        clients: take(inventory::CLIENT),
        tools: take(inventory::TOOL),
        protocols: take(inventory::PROTOCOL),
        name: row.try_get("name")?,
        version: row.try_get("version")?,
        confidence: match usize::try_from(confidence) {
            Ok(rank) => Some(*Confidence::ALL.get(rank).ok_or_else(|| bad("confidence"))?),
            Err(_) => None,
        },
        channel: channel.map(|word| word.parse().map_err(|_| bad("channel"))).transpose()?,
    })
}

fn incident(row: &SqliteRow) -> Result<IncidentRecord, ReadError> {
    let first_seq: i64 = row.try_get("first_seq")?;
    let events: i64 = row.try_get("events")?;
    Ok(IncidentRecord {
        id: row.try_get("id")?,
        rule: row.try_get("rule")?,
        rule_name: row.try_get("rule_name")?,
        level: row.try_get("level")?,
        action: row.try_get("action")?,
        client: row.try_get("client")?,
        server: row.try_get("server")?,
        first_seen_ms: row.try_get("first_ts")?,
        last_seen_ms: row.try_get("last_ts")?,
        events: u64::try_from(events).map_err(|_| ReadError::BadRow { table: "incident", column: "events", row: first_seq })?,
        first_seq,
        last_seq: row.try_get("last_seq")?,
    })
}
