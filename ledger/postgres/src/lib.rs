//! The journal of decisions in PostgreSQL: for gnomons of many hosts, which all heed what was decided at one of them.
//!
//! [`Decisions`] specifies it; `tests/server` holds it to that, against a real server. One connection per [`PostgresDecisions`], and no
//! pool: decisions are few, and a follower asks one thing at a time.
//!
//! **The trade-off**: a writer waits for all other writers, across a network. So every call is bounded: it ends after
//! [`CALL`] with an error that says whether something may have been kept. A connection on which anything failed is not used again; the next
//! call makes another. A pooler in front of the server must give a whole session (PgBouncer's `pool_mode = session`). Where a standby takes
//! over, it must have all that was confirmed (`synchronous_standby_names`), and so must a backup that is restored under gnomons that run: numbers that it
//! lacks are used anew. A follower that has seen them gets an error ([`PostgresDecisions::look`]). Tested with PostgreSQL 15; 13 is the
//! oldest that has what the schema needs.
//!
//! ```no_run
//! use gnomon_ledger_model::Decisions as _;
//! use gnomon_ledger_postgres::PostgresDecisions;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "postgres://gnomon@db.example.com/gnomon?sslrootcert=/etc/gnomon/db-ca.pem".parse()?;
//! let mut decisions = PostgresDecisions::open(url).await?;
//! println!("{} decisions so far", decisions.newest().await?);
//! # Ok(())
//! # }
//! ```
//!
//! # Who could do harm, and what holds
//!
//! *A decider, or the prompter of a decision*, chooses texts. They are parameters of statements and never a part of one; any
//! length and any character is kept as it is, in the order that SQLite has too, but for NUL, which PostgreSQL does not have: that entry is refused.
//!
//! *Who is on the network between* could read and decide in others' place. So a server is spoken with over TLS alone, and only if its certificate is
//! for the host that the URL names and of an authority that is trusted: the system's, and that of `sslrootcert`. **The driver trusts the system's
//! authorities also where `sslrootcert` names another.** Neither the URL nor the environment can turn this off. Who is between can
//! still keep gnomon from the server: calls fail then, in time, and what was read before is with the caller.
//!
//! *Who is on the same host*: a Unix socket has no TLS, and a user who may write to its folder can impersonate the server.
//!
//! *Who may do more in the database than a gnomon*, such as the owner of the schema, decides what entries are: the journal proves
//! nothing against them. A role that only keeps and reads needs no more than this, and can change no entry with it:
//!
//! ```sql
//! GRANT USAGE ON SCHEMA gnomon TO gnomon;
//! GRANT SELECT, INSERT ON gnomon.decision TO gnomon;
//! GRANT SELECT, UPDATE (newest) ON gnomon.meta TO gnomon;
//! ```
//!
//! A user who may connect to the database can block writers
//! ([advisory locks](https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS) are for all): let it be gnomon's own.
//!
//! # The URL
//!
//! `postgres://user:password@host:port/database?sslrootcert=FILE`, or `postgres://user@/database?host=/run/postgresql` for a Unix socket. `user`, `host`
//! and `database` must be there; `port` is 5432 if not. Over TCP `sslmode` is `verify-full`, and nothing else is accepted. The password is the
//! URL's, else `PGPASSWORD`'s unless `passfile=FILE` is in the URL, else that of the passfile, of `PGPASSFILE` or of `~/.pgpass`, which no
//! other user may read; it is read anew for each connection, and is in no error and nothing that is printed.
//!
//! Of libpq's other variables the driver uses `PGSSLCERT` and `PGSSLKEY` (a certificate of the client's) and `PGOPTIONS`, whose settings do
//! not replace those that bounds, order and durability rest on. `PGHOST`, `PGHOSTADDR`, `PGPORT`, `PGUSER`, `PGDATABASE`, `PGAPPNAME`,
//! `PGSSLMODE` and `PGSSLROOTCERT` change nothing. The system's authorities are where `SSL_CERT_FILE` and `SSL_CERT_DIR` say, if they are
//! set.
#![deny(missing_docs)]

mod connection;
mod entries;
mod error;
mod identifier;
mod password;
mod position;
mod schema;
mod url;

pub use error::{CallError, PostgresOpenError};
pub use position::{Contents, Contradicted, Position, Standby};
pub use url::{PostgresUrl, PostgresUrlError};

use connection::{CONNECT, connect};
use entries::{COMMIT, Columns, Row};
use error::{is_broken, refused};
use gnomon_ledger_model::{Asked, DecisionEntry, Decisions, KeptEntry, ReadError, StoreError, Stored, Topic};
use sqlx::{Connection as _, Error, PgConnection};
use std::{future::Future, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};

/// Timeout of a call, connecting included.
pub const CALL: Duration = Duration::from_secs(3);
/// Timeout of creating the schema, once there is a connection: where many start at once, they take turns.
const MIGRATION: Duration = Duration::from_secs(5);

/// Keeps decisions in a database.
pub struct PostgresDecisions {
    url: PostgresUrl,
    /// The connection; none after a failure and during a call: a cancelled call drops it, and with it what was not committed.
    conn: Option<PgConnection>,
}

impl std::fmt::Debug for PostgresDecisions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresDecisions").field("url", &self.url).finish_non_exhaustive()
    }
}

impl PostgresDecisions {
    /// Connects within 3 s, and makes the schema `gnomon` or brings it up to date within 5 s more.
    ///
    /// # Errors
    /// When the server cannot be reached or is not who it should be, or the schema cannot be made, is of a newer gnomon or of another program.
    pub async fn open(url: PostgresUrl) -> Result<Self, PostgresOpenError> {
        let mut conn = connect(&url, Instant::now() + CONNECT).await?;
        match timeout(MIGRATION, schema::migrate(&mut conn, &url)).await {
            Ok(migrated) => migrated?,
            Err(_) => return Err(error::late(&url, MIGRATION.as_secs())),
        }
        Ok(Self { url, conn: Some(conn) })
    }

    /// Does something that keeps nothing, and so may be done again where the connection turns out to be broken. Gives the connection
    /// along, as it may be in a transaction.
    async fn attempt<T, F>(&mut self, until: Instant, work: impl Fn(PgConnection) -> F + Send) -> Result<(PgConnection, T), CallError>
    where
        F: Future<Output = Result<(PgConnection, T), Error>> + Send,
    {
        if let Some(conn) = self.conn.take() {
            match timeout_at(until, work(conn)).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) if is_broken(&error) => {}
                Ok(Err(error)) => return Err(refused(&self.url, error)),
                Err(_) => return Err(self.silent()),
            }
        }
        let mut conn = connect(&self.url, until).await?;
        let anew = async {
            schema::check(&mut conn, &self.url).await?;
            work(conn).await.map_err(|error| refused(&self.url, error))
        };
        timeout_at(until, anew).await.unwrap_or_else(|_| Err(self.silent()))
    }

    /// How far the journal goes, and how it contradicts what was `read` of it before. Cheap: to be asked every second.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn look(&mut self, read: Option<&Position>) -> Result<(Position, Option<Contradicted>), ReadError> {
        let seen = read.map_or(0, |read| read.number);
        let (mut found, version) = self.ask(|conn| entries::position(conn, seen)).await?;
        if version != schema::VERSION {
            // As for `newest`.
            self.conn = None;
            found = self.ask(|conn| entries::position(conn, seen)).await?.0;
        }
        let contradicted = read.and_then(|read| found.contradicts(read, &self.url));
        Ok((found.position, contradicted))
    }

    /// The contents up to this entry. Reads all entries, on the server: not for frequent use.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn contents(&mut self, upto: i64) -> Result<Contents, ReadError> {
        let (entries, digest) = self.ask(|conn| entries::contents(conn, upto)).await?;
        Ok(Contents { entries, digest })
    }

    /// How the journal, which goes as far as `there`, contradicts what was `read` of it, and had then, in any entry; and whether it lacks one that came since,
    /// as numbers are never left out. Reads all of them, as [`Self::contents`] does.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn verify(&mut self, read: &Position, had: &Contents, there: &Position) -> Result<Option<Contradicted>, ReadError> {
        let mut how = self.contents(read.number).await?.contradicts(had, read.number);
        if how.is_none() && there.number > read.number {
            let came = self.contents(there.number).await?.entries - had.entries;
            if came != there.number - read.number {
                how = Some(format!("lacks entries between {} and {}: numbers are left out", read.number, there.number));
            }
        }
        Ok(how.map(|how| Contradicted { at: self.url.to_string(), how }))
    }

    /// The server, if it is a standby: what was decided last may not have come to it.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn standby(&mut self) -> Result<Option<Standby>, ReadError> {
        let changed_ms = self.ask(entries::standby).await?;
        Ok(changed_ms.map(|changed_ms| Standby { at: self.url.to_string(), changed_ms }))
    }

    /// Tries whether entries would be kept, and keeps none: the server may take no writes, or its disk be full.
    ///
    /// # Errors
    /// Why it would keep none.
    pub async fn try_to_put(&mut self) -> Result<(), CallError> {
        self.attempt(Instant::now() + CALL, entries::try_to_put).await?;
        Ok(())
    }

    fn silent(&self) -> CallError {
        CallError::Silent { at: self.url.to_string(), seconds: CALL.as_secs() }
    }

    /// The answer to a question.
    async fn ask<T, F>(&mut self, work: impl Fn(PgConnection) -> F + Send) -> Result<T, ReadError>
    where
        F: Future<Output = Result<(PgConnection, T), Error>> + Send,
    {
        let (conn, answer) = self.attempt(Instant::now() + CALL, work).await.map_err(|error| ReadError::Shared(error.into()))?;
        self.conn = Some(conn);
        Ok(answer)
    }

    async fn add(&mut self, entries: &[DecisionEntry]) -> Result<i64, CallError> {
        let columns = &Columns::of(entries)?;
        let until = Instant::now() + CALL;
        let inserted = |mut conn: PgConnection| async move {
            let newest = columns.insert(&mut conn).await?;
            Ok((conn, newest))
        };
        let (mut conn, newest) = self.attempt(until, inserted).await?;
        let cause = match timeout_at(until, sqlx::raw_sql(COMMIT).execute(&mut conn)).await {
            Ok(Ok(_)) => {
                self.conn = Some(conn);
                return Ok(newest);
            }
            Ok(Err(error)) if error.as_database_error().is_some() && !is_broken(&error) => return Err(refused(&self.url, error)),
            Ok(Err(error)) => error::said(error).to_string(),
            Err(_) => format!("no answer within {} s", CALL.as_secs()),
        };
        Err(CallError::MaybeKept { at: self.url.to_string(), cause })
    }

    /// Entries that a query finds.
    async fn entries<F>(&mut self, query: impl Fn(PgConnection) -> F + Send) -> Result<Vec<KeptEntry>, ReadError>
    where
        F: Future<Output = Result<(PgConnection, Vec<Row>), Error>> + Send,
    {
        self.ask(query).await?.into_iter().map(KeptEntry::try_from).collect()
    }
}

impl Decisions for PostgresDecisions {
    fn put<'a>(&'a mut self, entries: &'a [DecisionEntry]) -> Stored<'a, i64> {
        Box::pin(async move {
            self.add(entries).await.map_err(|error| match error {
                CallError::MaybeKept { .. } => StoreError::new(error),
                // Nothing uncommitted is kept.
                error => StoreError::refused(error),
            })
        })
    }

    fn newest(&mut self) -> Asked<'_, i64> {
        Box::pin(async move {
            let (newest, version) = self.ask(entries::newest).await?;
            if version == schema::VERSION {
                return Ok(newest);
            }
            // The schema was changed under this connection. A new one is held against it, and says how it differs.
            self.conn = None;
            Ok(self.ask(entries::newest).await?.0)
        })
    }

    fn after(&mut self, number: i64, limit: usize) -> Asked<'_, Vec<KeptEntry>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Box::pin(self.entries(move |conn| entries::after(conn, number, limit)))
    }

    fn standing(&mut self, topic: Topic) -> Asked<'_, Vec<KeptEntry>> {
        Box::pin(self.entries(move |conn| entries::standing(conn, topic)))
    }

    fn about<'a>(&'a mut self, topic: Topic, subject: &'a str) -> Asked<'a, Vec<KeptEntry>> {
        Box::pin(async move {
            // No entry has such a subject, and asking for it would cost the connection.
            if subject.contains('\0') { Ok(Vec::new()) } else { self.entries(|conn| entries::about(conn, topic, subject)).await }
        })
    }

    fn imported<'a>(&'a mut self, source: &'a str) -> Asked<'a, Vec<KeptEntry>> {
        Box::pin(async move {
            if source.contains('\0') {
                return Ok(Vec::new());
            }
            let mut found = self.entries(|conn| entries::imported(conn, source)).await?;
            found.sort_by(|a, b| (a.entry.topic, &a.entry.subject).cmp(&(b.entry.topic, &b.entry.subject)));
            Ok(found)
        })
    }

    fn close(self: Box<Self>) -> Stored<'static, ()> {
        Box::pin(async move {
            let Some(conn) = self.conn else { return Ok(()) };
            // A timeout is ignored: all that was put is committed.
            timeout(CALL, conn.close()).await.unwrap_or(Ok(())).map_err(StoreError::new)
        })
    }
}
