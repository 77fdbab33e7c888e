//! The schema: what it is, how it came to be, and what a role must be allowed to do with it.

use crate::{
    PostgresUrl,
    error::{PostgresOpenError, is_forbidden, said},
    identifier::quoted,
};
use sqlx::{AssertSqlSafe, Error, PgConnection};

/// Marks the schema as ours.
const APPLICATION: &str = "gnomon decisions";

/// Takes the lock that makes writers of this database's journal wait for each other: "gnomon".
pub(crate) const TURN: &str = "SELECT pg_advisory_xact_lock(x'676e6f6d6f6e'::bigint)";
/// A transaction sees what was committed before each of its statements, and so before it had its turn, whatever the role's default is.
pub(crate) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Step n leads from schema n to schema n + 1.
///
/// A subject or a source may be longer than an index takes, so that what is indexed is the start of it.
const MIGRATIONS: &[&str] = &[
    "CREATE TABLE gnomon.meta (
       one boolean PRIMARY KEY DEFAULT true CHECK (one),
       application text NOT NULL,
       version bigint NOT NULL,
       newest bigint NOT NULL
     );
     INSERT INTO gnomon.meta (application, version, newest) VALUES ('gnomon decisions', 0, 0);
     CREATE TABLE gnomon.decision (
       number bigint PRIMARY KEY,
       topic text COLLATE \"C\" NOT NULL,
       subject text COLLATE \"C\" NOT NULL,
       at_ms bigint NOT NULL,
       \"user\" text COLLATE \"C\",
       login_uid bigint,
       uid bigint NOT NULL,
       reason text COLLATE \"C\",
       body text COLLATE \"C\",
       source text COLLATE \"C\",
       digest text COLLATE \"C\"
     );
     CREATE INDEX decision_subject ON gnomon.decision (topic, left(subject, 256), number);
     CREATE INDEX decision_source ON gnomon.decision (left(source, 256), number) WHERE source IS NOT NULL;",
    // The ids of the journal and of each entry: random, so that no other has the same (position.rs).
    "ALTER TABLE gnomon.meta ADD COLUMN journal uuid NOT NULL DEFAULT gen_random_uuid();
     ALTER TABLE gnomon.decision ADD COLUMN mark uuid NOT NULL DEFAULT gen_random_uuid();",
];

/// The schema this gnomon writes.
pub(crate) const VERSION: i64 = MIGRATIONS.len() as i64;

/// The state of the schema in a database.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    NoSchema,
    Empty,
    Foreign,
    Journal(i64),
}

/// Checks that the schema is still a journal that this gnomon writes, and may be written: nothing is created under a gnomon that runs.
pub(crate) async fn check(conn: &mut PgConnection, url: &PostgresUrl) -> Result<(), PostgresOpenError> {
    match find(conn, url).await? {
        Found::Journal(VERSION) => rights(conn, url).await,
        Found::Journal(found) if found > VERSION => Err(newer(url, found)),
        Found::Foreign => Err(PostgresOpenError::NotAJournal { at: url.to_string() }),
        Found::NoSchema | Found::Empty | Found::Journal(_) => Err(PostgresOpenError::Replaced { at: url.to_string() }),
    }
}

/// Makes the schema the one this gnomon writes. Many may do so at once: the first does it, and the others find it done.
pub(crate) async fn migrate(conn: &mut PgConnection, url: &PostgresUrl) -> Result<(), PostgresOpenError> {
    let refused = |error| database(url, error, grant);
    let (encoding,): (String,) =
        sqlx::query_as("SELECT pg_encoding_to_char(encoding)::text FROM pg_database WHERE datname = current_database()")
            .fetch_one(&mut *conn)
            .await
            .map_err(refused)?;
    if encoding != "UTF8" {
        return Err(PostgresOpenError::Encoding { at: url.to_string(), found: encoding });
    }
    loop {
        if find(conn, url).await? == Found::Journal(VERSION) {
            return rights(conn, url).await;
        }
        sqlx::raw_sql(BEGIN).execute(&mut *conn).await.map_err(refused)?;
        sqlx::raw_sql(TURN).execute(&mut *conn).await.map_err(refused)?;
        let found = match find(conn, url).await? {
            Found::Foreign => return Err(PostgresOpenError::NotAJournal { at: url.to_string() }),
            Found::Journal(found) if found > VERSION => return Err(newer(url, found)),
            Found::Journal(found) => found,
            Found::Empty => 0,
            Found::NoSchema => {
                let created = sqlx::raw_sql("CREATE SCHEMA gnomon").execute(&mut *conn).await;
                created.map_err(|error| database(url, error, |user| format!("CREATE SCHEMA gnomon AUTHORIZATION {user}")))?;
                0
            }
        };
        if let Some(step) = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found)) {
            let done = format!("{step} UPDATE gnomon.meta SET version = {found} + 1;");
            let done = sqlx::raw_sql(AssertSqlSafe(done)).execute(&mut *conn).await;
            done.map_err(|error| database(url, error, if found == 0 { grant_first } else { grant_all }))?;
        }
        sqlx::raw_sql("COMMIT").execute(&mut *conn).await.map_err(refused)?;
    }
}

/// Finds the state of the schema; the catalogues are for everybody to read.
async fn find(conn: &mut PgConnection, url: &PostgresUrl) -> Result<Found, PostgresOpenError> {
    let catalogued = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'gnomon'),
           (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = 'gnomon' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')),
           (SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = 'gnomon' AND c.relname = 'meta' AND a.attname IN ('application', 'version', 'newest'))",
    );
    let (schema, tables, columns): (bool, i64, i64) =
        catalogued.fetch_one(&mut *conn).await.map_err(|error| database(url, error, grant))?;
    match (schema, tables, columns) {
        (false, ..) => return Ok(Found::NoSchema),
        (true, 0, _) => return Ok(Found::Empty),
        (true, _, 3) => {}
        (true, ..) => return Ok(Found::Foreign),
    }
    let meta = sqlx::query_as("SELECT application::text, version::bigint FROM gnomon.meta LIMIT 1").fetch_optional(&mut *conn).await;
    let meta: Option<(String, i64)> = meta.map_err(|error| database(url, error, grant))?;
    Ok(meta
        .filter(|(application, version)| application == APPLICATION && *version >= 0)
        .map_or(Found::Foreign, |(_, version)| Found::Journal(version)))
}

/// Checks the role's rights.
async fn rights(conn: &mut PgConnection, url: &PostgresUrl) -> Result<(), PostgresOpenError> {
    let all = "SELECT has_table_privilege('gnomon.decision', 'SELECT') AND has_table_privilege('gnomon.decision', 'INSERT')
         AND has_column_privilege('gnomon.meta', 'newest', 'UPDATE')";
    match sqlx::query_scalar(all).fetch_one(conn).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(missing(url, grant)),
        Err(error) => Err(database(url, error, grant)),
    }
}

/// The statement that grants the rights to keep and read the journal, and no more: with these no entry can be changed.
fn grant(user: &str) -> String {
    format!(
        "GRANT USAGE ON SCHEMA gnomon TO {user}; GRANT SELECT, INSERT ON gnomon.decision TO {user}; \
         GRANT SELECT, UPDATE (newest) ON gnomon.meta TO {user}"
    )
}

/// The statement that grants the rights to create the tables in an existing schema.
fn grant_first(user: &str) -> String {
    format!("GRANT USAGE, CREATE ON SCHEMA gnomon TO {user}")
}

/// The statement that grants the rights to change them.
fn grant_all(user: &str) -> String {
    format!(
        "GRANT USAGE, CREATE ON SCHEMA gnomon TO {user}; ALTER TABLE gnomon.meta OWNER TO {user}; ALTER TABLE gnomon.decision OWNER TO {user}"
    )
}

fn missing(url: &PostgresUrl, grant: impl Fn(&str) -> String) -> PostgresOpenError {
    PostgresOpenError::MissingRights { at: url.to_string(), grant: grant(&quoted(url.user())) }
}

/// The error of the database; `grant` is the remedy where a right is missing.
fn database(url: &PostgresUrl, error: Error, grant: impl Fn(&str) -> String) -> PostgresOpenError {
    if is_forbidden(&error) { missing(url, grant) } else { PostgresOpenError::Database { at: url.to_string(), source: said(error) } }
}

fn newer(url: &PostgresUrl, found: i64) -> PostgresOpenError {
    PostgresOpenError::Newer { at: url.to_string(), found, known: VERSION }
}
