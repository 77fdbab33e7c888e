//! Reading: pages of events, the inventory, incidents.

use super::{conditions, inventory, schema::SCHEMA};
use gnomon_database::{Folder, identity, is_damaged, may_read, plain};
use gnomon_files::sqlite::log_of;
use gnomon_ledger_model::{
    Asked, Contact, EventFilter, IdPrefix, IncidentRecord, LedgerReader, MAX_PAGE, Names, NewName, Order, ReadError, ServerRecord,
    ServerStatus, StoredEvent,
};
use gnomon_observe::Confidence;
use sqlx::{
    ConnectOptions, QueryBuilder, Row, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};
use std::{collections::HashMap, io::ErrorKind, ops::Range, path::Path, time::Duration};

/// How long a question waits for a lock of the writer.
const LOCKED: Duration = Duration::from_secs(2);

/// Reads a ledger over a read-only connection. Each question is a short transaction, so that a slow reader never keeps the
/// write-ahead log from being folded.
pub struct SqliteReader {
    pub(super) conn: SqliteConnection,
}

impl std::fmt::Debug for SqliteReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteReader").finish_non_exhaustive()
    }
}

/// The columns of an event that are given away: number, moment, line.
pub(super) type EventRow = (i64, i64, String);

pub(super) fn event((seq, at_ms, json): EventRow) -> StoredEvent {
    StoredEvent { seq, at_ms, json }
}

/// The error of a query that the driver refused.
pub(super) fn refused(error: sqlx::Error) -> ReadError {
    if is_damaged(&error) {
        return damaged("the database", error.into());
    }
    ReadError::Database(error.into())
}

fn damaged(at: &str, source: Box<dyn std::error::Error + Send + Sync>) -> ReadError {
    let remedy = format!(
        "it was truncated, overwritten, or copied while it was written; a gnomon that runs begins a truncated one anew within ten minutes, else move it away together with {at}-wal and {at}-shm, and start gnomon"
    );
    ReadError::Damaged { at: at.to_owned(), remedy, source }
}

/// Why a file cannot be read, if it cannot.
pub(super) fn readable(path: &Path, folder: Folder) -> Result<(), ReadError> {
    may_read(path, folder).map_err(|source| match source.kind() {
        ErrorKind::NotFound => ReadError::Missing { at: path.display().to_string() },
        _ => ReadError::NotReadable { at: path.display().to_string(), source: source.into() },
    })
}

impl SqliteReader {
    /// Opens the database at `path` for reading.
    ///
    /// # Errors
    /// When it is missing, may not be read, or has another schema.
    pub async fn open(path: &Path) -> Result<Self, ReadError> {
        let not_read = |error: sqlx::Error| match refused(error) {
            ReadError::Damaged { source, .. } => damaged(&path.display().to_string(), source),
            error => error,
        };
        let options = plain(path, LOCKED).read_only(true);
        let opened = match Self::connect(&options).await {
            Ok(opened) => opened,
            // Someone who may not write beside a closed ledger cannot make the log's shared memory.
            // Without a log there is no writer, and the file can be read as it stands.
            Err(error) => {
                readable(path, Folder::Own)?;
                if log_of(path).exists() {
                    return Err(not_read(error));
                }
                Self::connect(&options.immutable(true)).await.map_err(not_read)?
            }
        };
        let (rows, application, found) = opened;
        let (at, known) = (path.display().to_string(), SCHEMA.version());
        match (application, found) {
            ours if ours == (SCHEMA.application_id, known) => Ok(rows),
            (0, 0) if std::fs::metadata(path).is_ok_and(|there| there.len() == 0) => Err(ReadError::Empty { at }),
            (application, found) if application == SCHEMA.application_id => Err(ReadError::Schema { at, found, known }),
            _ => Err(ReadError::NotALedger { at }),
        }
    }

    async fn connect(options: &SqliteConnectOptions) -> Result<(Self, i64, i64), sqlx::Error> {
        let mut conn = options.connect().await?;
        let (application, found) = identity(&mut conn).await?;
        Ok((Self { conn }, application, found))
    }

    async fn newest(&mut self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM event").fetch_one(&mut self.conn).await
    }

    async fn events(&mut self, filter: &EventFilter, order: Order, last: i64) -> Result<Vec<StoredEvent>, sqlx::Error> {
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
        let rows: Vec<EventRow> = sql.build_query_as().fetch_all(&mut self.conn).await?;
        Ok(rows.into_iter().map(event).collect())
    }

    async fn servers(&mut self) -> Result<Vec<ServerRecord>, ReadError> {
        let mut names: HashMap<(i64, String), Vec<String>> = HashMap::new();
        let all: Vec<(i64, String, String)> = sqlx::query_as("SELECT server, what, name FROM server_name ORDER BY server, what, name")
            .fetch_all(&mut self.conn)
            .await
            .map_err(refused)?;
        for (server, what, name) in all {
            names.entry((server, what)).or_default().push(name);
        }
        let rows = sqlx::query("SELECT * FROM server ORDER BY last_ts DESC, address, port, path")
            .fetch_all(&mut self.conn)
            .await
            .map_err(refused)?;
        rows.iter().map(|row| server(row, &mut names)).collect()
    }

    async fn tools(&mut self, seen_ms: Range<i64>, limit: usize) -> Result<Vec<NewName>, sqlx::Error> {
        let rows: Vec<(String, i64, String, String, i64)> = sqlx::query_as(
            "SELECT address, port, path, server_name.name, server_name.first_ts FROM server_name JOIN server ON server.id = server_name.server
             WHERE what = ? AND server_name.first_ts >= ? AND server_name.first_ts < ? ORDER BY server_name.first_ts DESC, address, port, path, server_name.name
             LIMIT ?",
        )
        .bind(inventory::TOOL)
        .bind(seen_ms.start)
        .bind(seen_ms.end)
        .bind(limit as i64)
        .fetch_all(&mut self.conn)
        .await?;
        let port = |port: i64| u16::try_from(port).ok().filter(|port| *port != 0);
        let new = |(address, number, path, name, first_seen_ms)| NewName { address, port: port(number), path, name, first_seen_ms };
        Ok(rows.into_iter().map(new).collect())
    }

    async fn bursts(&mut self, limit: usize) -> Result<Vec<IncidentRecord>, ReadError> {
        let query = sqlx::query("SELECT * FROM incident ORDER BY last_seq DESC LIMIT ?").bind(limit as i64);
        let rows = query.fetch_all(&mut self.conn).await.map_err(refused)?;
        rows.iter().map(incident).collect()
    }
}

impl LedgerReader for SqliteReader {
    fn last_seq(&mut self) -> Asked<'_, i64> {
        Box::pin(async move { self.newest().await.map_err(refused) })
    }

    fn page<'a>(&'a mut self, filter: &'a EventFilter, order: Order, last: i64) -> Asked<'a, Vec<StoredEvent>> {
        Box::pin(async move { self.events(filter, order, last).await.map_err(refused) })
    }

    fn event(&mut self, seq: i64) -> Asked<'_, Option<StoredEvent>> {
        Box::pin(async move { self.numbered(seq).await.map_err(refused) })
    }

    fn by_id<'a>(&'a mut self, prefix: &'a IdPrefix, limit: usize) -> Asked<'a, Vec<StoredEvent>> {
        Box::pin(async move { self.named(prefix, limit).await.map_err(refused) })
    }

    fn bursts_by_id<'a>(&'a mut self, prefix: &'a IdPrefix, limit: usize) -> Asked<'a, Vec<(String, i64)>> {
        Box::pin(async move { self.bursts_named(prefix, limit).await.map_err(refused) })
    }

    fn near<'a>(&'a mut self, event: &'a StoredEvent, names: &'a Names, limit: usize) -> Asked<'a, Vec<StoredEvent>> {
        Box::pin(async move { self.around(event, names, limit).await.map_err(refused) })
    }

    fn outcome<'a>(&'a mut self, event: &'a StoredEvent, call: &'a str) -> Asked<'a, Option<StoredEvent>> {
        Box::pin(async move { self.outcome_of(event, call).await.map_err(refused) })
    }

    fn inventory(&mut self) -> Asked<'_, Vec<ServerRecord>> {
        Box::pin(self.servers())
    }

    fn new_tools(&mut self, seen_ms: Range<i64>, limit: usize) -> Asked<'_, Vec<NewName>> {
        Box::pin(async move { self.tools(seen_ms, limit).await.map_err(refused) })
    }

    fn incidents(&mut self, limit: usize) -> Asked<'_, Vec<IncidentRecord>> {
        Box::pin(self.bursts(limit))
    }
}

fn get<'r, T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>>(row: &'r SqliteRow, column: &'static str) -> Result<T, ReadError> {
    row.try_get(column).map_err(refused)
}

fn server(row: &SqliteRow, names: &mut HashMap<(i64, String), Vec<String>>) -> Result<ServerRecord, ReadError> {
    let id: i64 = get(row, "id")?;
    let bad = |column| ReadError::BadRow { table: "server", column, row: id };
    let mut take = |what: &str| names.remove(&(id, what.to_owned())).unwrap_or_default();
    let port: i64 = get(row, "port")?;
    let confidence: i64 = get(row, "confidence")?;
    let channel: Option<String> = get(row, "channel")?;
    let channel = channel.map(|word| word.parse().map_err(|_| bad("channel"))).transpose()?;
    let (calls, unreached): (i64, i64) = (get(row, "calls")?, get(row, "unreached")?);
    Ok(ServerRecord {
        address: get(row, "address")?,
        port: Some(u16::try_from(port).map_err(|_| bad("port"))?).filter(|port| *port != 0),
        path: get(row, "path")?,
        status: match get(row, "sanctioned")? {
            Some(true) => ServerStatus::Sanctioned,
            Some(false) | None => ServerStatus::Shadow,
        },
        catalogue: get(row, "catalogue")?,
        first_seen_ms: get(row, "first_ts")?,
        last_seen_ms: get(row, "last_ts")?,
        calls: u64::try_from(calls).map_err(|_| bad("calls"))?,
        unreached: u64::try_from(unreached).map_err(|_| bad("unreached"))?,
        contact: Contact::of(calls, unreached, get(row, "answered")?, channel),
        clients: take(inventory::CLIENT),
        tools: take(inventory::TOOL),
        protocols: take(inventory::PROTOCOL),
        users: take(inventory::USER),
        listens: take(inventory::LISTENS),
        name: get(row, "name")?,
        version: get(row, "version")?,
        confidence: match usize::try_from(confidence) {
            Ok(rank) => Some(*Confidence::ALL.get(rank).ok_or_else(|| bad("confidence"))?),
            Err(_) => None,
        },
        channel,
    })
}

fn incident(row: &SqliteRow) -> Result<IncidentRecord, ReadError> {
    let first_seq: i64 = get(row, "first_seq")?;
    let events: i64 = get(row, "events")?;
    Ok(IncidentRecord {
        id: get(row, "id")?,
        rule: get(row, "rule")?,
        rule_name: get(row, "rule_name")?,
        level: get(row, "level")?,
        action: get(row, "action")?,
        client: get(row, "client")?,
        server: get(row, "server")?,
        first_seen_ms: get(row, "first_ts")?,
        last_seen_ms: get(row, "last_ts")?,
        events: u64::try_from(events).map_err(|_| ReadError::BadRow { table: "incident", column: "events", row: first_seq })?,
        first_seq,
        last_seq: get(row, "last_seq")?,
    })
}
