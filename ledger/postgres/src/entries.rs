//! Entries as rows, and back.

use crate::{
    error::CallError,
    position::{Found, Position},
    schema::{BEGIN, TURN},
};
use gnomon_ledger_model::{DecidedBy, DecisionEntry, KeptEntry, Origin, ReadError, Topic};
use sqlx::{
    Error, FromRow, PgConnection, Postgres,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};

/// A query for entries.
macro_rules! select {
    ($which:literal) => {
        concat!(
            r#"SELECT number, topic, subject, at_ms, "user", login_uid, uid, reason, body, source, digest FROM gnomon.decision "#,
            $which
        )
    };
}

/// A row of [`select!`].
#[derive(Debug)]
pub(crate) struct Row {
    number: i64,
    topic: String,
    subject: String,
    at_ms: i64,
    user: Option<String>,
    login_uid: Option<i64>,
    uid: i64,
    reason: Option<String>,
    body: Option<String>,
    source: Option<String>,
    digest: Option<String>,
}

impl<'r> FromRow<'r, PgRow> for Row {
    fn from_row(row: &'r PgRow) -> Result<Self, Error> {
        let (number, topic, subject, at_ms, user, login_uid, uid, reason, body, source, digest) = FromRow::from_row(row)?;
        Ok(Self { number, topic, subject, at_ms, user, login_uid, uid, reason, body, source, digest })
    }
}

impl TryFrom<Row> for KeptEntry {
    type Error = ReadError;

    fn try_from(row: Row) -> Result<Self, ReadError> {
        let Row { number, topic, subject, at_ms, user, login_uid, uid, reason, body, source, digest } = row;
        let bad = |column| ReadError::BadRow { table: "decision", column, row: number };
        let topic = Topic::of_word(&topic).ok_or_else(|| bad("topic"))?;
        let login_uid = login_uid.map(u32::try_from).transpose().map_err(|_| bad("login_uid"))?;
        let uid = u32::try_from(uid).map_err(|_| bad("uid"))?;
        let origin = source.zip(digest).map(|(source, digest)| Origin { source, digest });
        let by = DecidedBy { user, login_uid, uid };
        Ok(Self { number, entry: DecisionEntry { topic, subject, at_ms, by, reason, body, origin } })
    }
}

/// Entries by column, as one statement takes any number of them so.
#[derive(Debug, Default)]
pub(crate) struct Columns<'a> {
    topic: Vec<&'a str>,
    subject: Vec<&'a str>,
    at_ms: Vec<i64>,
    user: Vec<Option<&'a str>>,
    login_uid: Vec<Option<i64>>,
    uid: Vec<i64>,
    reason: Vec<Option<&'a str>>,
    body: Vec<Option<&'a str>>,
    source: Vec<Option<&'a str>>,
    digest: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    pub(crate) fn of(entries: &'a [DecisionEntry]) -> Result<Self, CallError> {
        let mut columns = Self::default();
        for entry in entries {
            let DecisionEntry { topic, subject, at_ms, by: DecidedBy { user, login_uid, uid }, reason, body, origin } = entry;
            let (user, reason, body) = (user.as_deref(), reason.as_deref(), body.as_deref());
            let (source, digest) = origin.as_ref().map(|origin| (origin.source.as_str(), origin.digest.as_str())).unzip();
            let texts = [
                ("subject", Some(subject.as_str())),
                ("user", user),
                ("reason", reason),
                ("body", body),
                ("source", source),
                ("digest", digest),
            ];
            if let Some((column, _)) = texts.into_iter().find(|(_, text)| text.is_some_and(|text| text.contains('\0'))) {
                return Err(CallError::Nul { column });
            }
            columns.topic.push(topic.as_str());
            columns.subject.push(subject);
            columns.at_ms.push(*at_ms);
            columns.user.push(user);
            columns.login_uid.push(login_uid.map(i64::from));
            columns.uid.push(i64::from(*uid));
            columns.reason.push(reason);
            columns.body.push(body);
            columns.source.push(source);
            columns.digest.push(digest);
        }
        Ok(columns)
    }

    /// Puts them in a transaction that [`COMMIT`] ends; the number of the last.
    ///
    /// The holder of the turn draws numbers, and holds it until its entries are visible: no reader sees a number before a lower one.
    /// Numbers are counted and not looked up: none is used again where an entry was removed by hand, none is left out where a transaction
    /// fails.
    pub(crate) async fn insert(&self, conn: &mut PgConnection) -> Result<i64, Error> {
        sqlx::raw_sql(BEGIN).execute(&mut *conn).await?;
        sqlx::raw_sql(TURN).execute(&mut *conn).await?;
        let count = i64::try_from(self.topic.len()).unwrap_or(i64::MAX);
        let newest = "UPDATE gnomon.meta SET newest = greatest(newest, (SELECT max(number) FROM gnomon.decision)) + $1 RETURNING newest";
        let newest: i64 = sqlx::query_scalar(newest).bind(count).fetch_one(&mut *conn).await?;
        sqlx::query(
            r#"INSERT INTO gnomon.decision (number, topic, subject, at_ms, "user", login_uid, uid, reason, body, source, digest)
               SELECT $1 + n, topic, subject, at_ms, by, login_uid, uid, reason, body, source, digest
               FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::text[])
                 WITH ORDINALITY AS entry (topic, subject, at_ms, by, login_uid, uid, reason, body, source, digest, n)"#,
        )
        .bind(newest - count)
        .bind(&self.topic)
        .bind(&self.subject)
        .bind(&self.at_ms)
        .bind(&self.user)
        .bind(&self.login_uid)
        .bind(&self.uid)
        .bind(&self.reason)
        .bind(&self.body)
        .bind(&self.source)
        .bind(&self.digest)
        .execute(&mut *conn)
        .await?;
        Ok(newest)
    }
}

/// Ends a transaction that puts entries. Where the server waits for a standby first, it is not to say after 2 s that it is done.
pub(crate) const COMMIT: &str = "SET LOCAL statement_timeout = 0; COMMIT";

/// The result of a read: the connection comes back with it, and is dropped on an error.
type Read<T> = Result<(PgConnection, T), Error>;

async fn rows(mut conn: PgConnection, query: QueryAs<'_, Postgres, Row, PgArguments>) -> Read<Vec<Row>> {
    let rows = query.fetch_all(&mut conn).await?;
    Ok((conn, rows))
}

/// The number, and the version of the schema, which a newer gnomon may change at any time.
pub(crate) async fn newest(mut conn: PgConnection) -> Read<(i64, i64)> {
    let newest = "SELECT (SELECT coalesce(max(number), 0) FROM gnomon.decision), (SELECT version FROM gnomon.meta)";
    let newest = sqlx::query_as(newest).fetch_one(&mut conn).await?;
    Ok((conn, newest))
}

/// Of a standby the moment of the newest change that it has, milliseconds since the Unix epoch; of one that was just started, that of the
/// checkpoint it began with. None of a server that takes writes.
pub(crate) async fn standby(mut conn: PgConnection) -> Read<Option<i64>> {
    let changed = "SELECT CASE WHEN pg_is_in_recovery() THEN (1000 * extract(epoch FROM
         coalesce(pg_last_xact_replay_timestamp(), (SELECT checkpoint_time FROM pg_control_checkpoint()))))::bigint END";
    let changed = sqlx::query_scalar(changed).fetch_one(&mut conn).await?;
    Ok((conn, changed))
}

/// How far the journal goes, with the mark of that entry and of entry `seen`, and the version of the schema.
pub(crate) async fn position(mut conn: PgConnection, seen: i64) -> Read<(Found, i64)> {
    let sql = "SELECT meta.journal::text, coalesce(last.number, 0), last.mark::text,
         (SELECT mark::text FROM gnomon.decision WHERE number = $1), meta.version
       FROM gnomon.meta LEFT JOIN (SELECT number, mark FROM gnomon.decision ORDER BY number DESC LIMIT 1) last ON true";
    let (journal, number, mark, mark_then, version) = sqlx::query_as(sql).bind(seen).fetch_one(&mut conn).await?;
    Ok((conn, (Found { position: Position { journal, number, mark }, mark_then }, version)))
}

/// The entries up to this number, and a digest over all that they say. Computed there, so that no more than that is on its way.
pub(crate) async fn contents(mut conn: PgConnection, upto: i64) -> Read<(i64, String)> {
    let sql = r#"SELECT count(*), left(encode(sha256(coalesce(string_agg(sha256(convert_to(
           ROW(number, mark, topic, subject, at_ms, "user", login_uid, uid, reason, body, source, digest)::text, 'UTF8')), ''::bytea ORDER BY number),
         ''::bytea)), 'hex'), 32)
       FROM gnomon.decision WHERE number <= $1"#;
    let contents = sqlx::query_as(sql).bind(upto).fetch_one(&mut conn).await?;
    Ok((conn, contents))
}

/// Puts an entry in a transaction that is taken back: one that no page has room for, so that a full disk is met.
pub(crate) async fn try_to_put(mut conn: PgConnection) -> Read<()> {
    sqlx::raw_sql(BEGIN).execute(&mut conn).await?;
    sqlx::raw_sql(TURN).execute(&mut conn).await?;
    sqlx::raw_sql("UPDATE gnomon.meta SET newest = newest").execute(&mut conn).await?;
    let entry = "INSERT INTO gnomon.decision (number, topic, subject, at_ms, uid, body)
       SELECT -1, 'trial', 'trial', 0, 0, string_agg(md5(random()::text), '') FROM generate_series(1, 1024)";
    sqlx::raw_sql(entry).execute(&mut conn).await?;
    sqlx::raw_sql("ROLLBACK").execute(&mut conn).await?;
    Ok((conn, ()))
}

pub(crate) async fn after(conn: PgConnection, number: i64, limit: i64) -> Read<Vec<Row>> {
    rows(conn, sqlx::query_as(select!("WHERE number > $1 ORDER BY number LIMIT $2")).bind(number).bind(limit)).await
}

pub(crate) async fn standing(conn: PgConnection, topic: Topic) -> Read<Vec<Row>> {
    let sql = select!(
        "WHERE number IN (SELECT max(number) FROM gnomon.decision WHERE topic = $1 GROUP BY subject) AND body IS NOT NULL ORDER BY subject"
    );
    rows(conn, sqlx::query_as(sql).bind(topic.as_str())).await
}

pub(crate) async fn about(conn: PgConnection, topic: Topic, subject: &str) -> Read<Vec<Row>> {
    let sql = select!("WHERE topic = $1 AND left(subject, 256) = left($2, 256) AND subject = $2 ORDER BY number");
    rows(conn, sqlx::query_as(sql).bind(topic.as_str()).bind(subject)).await
}

pub(crate) async fn imported(conn: PgConnection, source: &str) -> Read<Vec<Row>> {
    let sql = select!(
        "WHERE number IN (SELECT max(number) FROM gnomon.decision WHERE left(source, 256) = left($1, 256) AND source = $1 GROUP BY topic, subject)"
    );
    rows(conn, sqlx::query_as(sql).bind(source)).await
}
