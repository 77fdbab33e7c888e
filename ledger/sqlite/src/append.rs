//! Adding events: many rows per statement, because a statement per event would cost more than the
//! rows themselves.

use gnomon_ledger_model::{Deltas, Group};
use sqlx::{AssertSqlSafe, SqliteConnection};
use std::sync::Arc;

/// Rows per statement, largest first; each size is prepared once. Every statement is a round trip to the
/// thread that the driver keeps for the database.
const SIZES: [usize; 6] = [1024, 256, 64, 16, 4, 1];

/// The text of the insert of each size, and the texts bound last.
pub(super) struct Statements {
    sql: [Arc<str>; SIZES.len()],
    kind: Memo,
    rule: Memo,
    server: Memo,
    user: Memo,
}

impl Default for Statements {
    fn default() -> Self {
        let sql = SIZES.map(|rows| {
            let values = vec!["(?,?,?,?,?,?)"; rows].join(",");
            // A failure ends the whole transaction anyway, so no statement journal is wanted.
            format!("INSERT OR FAIL INTO event (ts, kind, rule, server, user, json) VALUES {values}").into()
        });
        Self { sql, kind: Memo::default(), rule: Memo::default(), server: Memo::default(), user: Memo::default() }
    }
}

/// The text that a column was bound to last. The driver wants texts it can own; neighbouring events
/// mostly share theirs, and sharing one is cheaper than copying it.
#[derive(Default)]
struct Memo(Option<Arc<str>>);

impl Memo {
    fn share(&mut self, text: Option<&str>) -> Option<Arc<str>> {
        let text = text?;
        match &self.0 {
            Some(last) if **last == *text => {}
            _ => self.0 = Some(text.into()),
        }
        self.0.clone()
    }
}

/// The numbers that the rows of a group were given: those of a statement follow each other.
pub(super) struct Seqs(Vec<(usize, i64)>);

impl Seqs {
    /// The number of the event at place `n`.
    pub(super) fn of(&self, n: usize) -> i64 {
        let run = self.0.partition_point(|(first, _)| *first <= n);
        run.checked_sub(1).and_then(|run| self.0.get(run)).map_or(0, |(first, seq)| seq + (n - first) as i64)
    }
}

/// Adds the events' rows.
pub(super) async fn events(conn: &mut SqliteConnection, statements: &mut Statements, group: &Group) -> Result<Seqs, sqlx::Error> {
    let mut seqs = Vec::with_capacity(group.rows().len() / SIZES[0] + 16);
    let mut next = 0;
    for (rows, sql) in SIZES.into_iter().zip(&statements.sql) {
        while group.rows().len() - next >= rows {
            let mut insert = sqlx::query(AssertSqlSafe(sql.clone()));
            for n in next..next + rows {
                let row = &group.rows()[n];
                insert = insert
                    .bind(row.at_ms)
                    .bind(statements.kind.share(Some(&row.kind)))
                    .bind(statements.rule.share(row.rule.as_deref()))
                    .bind(statements.server.share(row.server.as_deref()))
                    .bind(statements.user.share(row.user.as_deref()))
                    .bind(group.line(n));
            }
            let last = insert.execute(&mut *conn).await?.last_insert_rowid();
            seqs.push((next, last - (rows as i64 - 1)));
            next += rows;
        }
    }
    Ok(Seqs(seqs))
}

/// Opens and continues the incidents that the group's detections belong to.
pub(super) async fn incidents(conn: &mut SqliteConnection, deltas: &Deltas, seqs: &Seqs) -> Result<(), sqlx::Error> {
    for (id, delta) in &deltas.incidents {
        let about = &delta.about;
        sqlx::query(
            "INSERT INTO incident (id, rule, rule_name, level, action, client, server, first_ts, last_ts, events, first_seq, last_seq)
             VALUES (?,?,?,?,?,?,?,?,?,?,?,?)
             ON CONFLICT (id) DO UPDATE SET first_ts = min(first_ts, excluded.first_ts), last_ts = max(last_ts, excluded.last_ts),
               events = events + excluded.events, last_seq = excluded.last_seq",
        )
        .bind(id.as_str())
        .bind(about.rule.as_deref().unwrap_or_default())
        .bind(about.rule_name.as_deref())
        .bind(about.level.as_deref())
        .bind(about.action.as_deref())
        .bind(about.client.as_deref())
        .bind(about.server.as_deref())
        .bind(delta.first_ms)
        .bind(delta.last_ms)
        .bind(delta.count)
        .bind(seqs.of(delta.first))
        .bind(seqs.of(delta.last))
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}
