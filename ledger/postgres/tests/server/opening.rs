//! The schema: made once, by many at a time, and refused where it is somebody else's or not to be written.

use crate::stage::{Database, entry};
use gnomon_ledger_model::Decisions as _;
use gnomon_ledger_postgres::{PostgresDecisions, PostgresOpenError};

#[tokio::test(flavor = "multi_thread")]
async fn twenty_that_start_at_once_end_with_one_schema() {
    let Some(database) = Database::new().await else { return };
    let opening: Vec<_> = (0..20).map(|_| tokio::spawn(PostgresDecisions::open(database.url()))).collect();
    let mut open = Vec::new();
    for opening in opening {
        open.push(opening.await.unwrap().unwrap());
    }
    for (number, decisions) in (1..).zip(&mut open) {
        assert_eq!(decisions.put(&[entry("a", "1")]).await.unwrap(), number);
    }
    let meta: Vec<(i64, i64)> =
        sqlx::query_as("SELECT version, newest FROM gnomon.meta").fetch_all(&mut database.admin().await).await.unwrap();
    assert_eq!(meta, [(2, 20)]);
}

#[tokio::test]
async fn a_journal_of_a_newer_gnomon_is_refused_also_by_one_that_runs() {
    let Some(database) = Database::new().await else { return };
    let mut running = PostgresDecisions::open(database.url()).await.unwrap();
    database.run("UPDATE gnomon.meta SET version = 99").await;
    let error = PostgresDecisions::open(database.url()).await.unwrap_err();
    assert!(matches!(error, PostgresOpenError::Newer { found: 99, known: 2, .. }), "{error}");
    database
        .run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gnomon' AND datname = current_database()")
        .await;
    let error = running.put(&[entry("a", "1")]).await.unwrap_err().to_string();
    assert!(error.contains("was written by a newer gnomon (schema 99, this one knows 2)"), "{error}");
}

#[tokio::test]
async fn a_schema_of_another_program_is_left_as_it_is() {
    for foreign in [
        "CREATE SCHEMA gnomon; CREATE TABLE gnomon.plants (name text)",
        "CREATE SCHEMA gnomon; CREATE TABLE gnomon.meta (application text, version bigint, newest bigint)",
        "CREATE SCHEMA gnomon; CREATE TABLE gnomon.meta AS SELECT 'plants' AS application, 1::bigint AS version, 1::bigint AS newest",
    ] {
        let Some(database) = Database::new().await else { return };
        database.run(foreign).await;
        let error = PostgresDecisions::open(database.url()).await.unwrap_err();
        assert!(matches!(error, PostgresOpenError::NotAJournal { .. }), "{error}");
        let (tables,): (i64,) = sqlx::query_as("SELECT count(*) FROM pg_tables WHERE schemaname = 'gnomon'")
            .fetch_one(&mut database.admin().await)
            .await
            .unwrap();
        assert_eq!(tables, 1);
    }
}

#[tokio::test]
async fn a_journal_that_was_made_anew_under_a_running_gnomon_is_not_taken_for_the_one_before() {
    let Some(database) = Database::new().await else { return };
    let mut running = PostgresDecisions::open(database.url()).await.unwrap();
    database.run("DROP SCHEMA gnomon CASCADE; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gnomon' AND datname = current_database()").await;
    let error = running.newest().await.unwrap_err().to_string();
    assert!(error.contains("is not the one that was opened"), "{error}");
}

#[tokio::test]
async fn an_encoding_that_cannot_keep_every_text_is_refused() {
    let Some(database) = Database::new().await else { return };
    let name = database.server.database("ENCODING 'LATIN1' TEMPLATE template0").await.unwrap();
    let error = PostgresDecisions::open(Database { name, ..database }.url()).await.unwrap_err();
    assert!(matches!(&error, PostgresOpenError::Encoding { found, .. } if found == "LATIN1"), "{error}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_told_of_with_the_way_to_make_it() {
    let Some(database) = Database::new().await else { return };
    let error = PostgresDecisions::open(Database { name: "nowhere".to_owned(), ..database }.url()).await.unwrap_err().to_string();
    assert!(error.ends_with("let an administrator run: CREATE DATABASE \"nowhere\" ENCODING 'UTF8' TEMPLATE template0"), "{error}");
}

/// What a role that lacks a right is told to have run.
async fn needed(database: &Database, user: &str) -> Option<String> {
    match PostgresDecisions::open(database.url_of(user)).await {
        Ok(_) => None,
        Err(PostgresOpenError::MissingRights { grant, .. }) => Some(grant),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_role_that_lacks_rights_is_told_the_sql_that_gives_them() {
    let Some(database) = Database::new().await else { return };
    let role = |what: &str| format!("{what}-{}", database.name);
    // One that makes the schema, one that finds an empty one, and one that comes when all is there.
    for (what, sql) in [("first", "CREATE SCHEMA gnomon AUTHORIZATION"), ("late", "GRANT USAGE ON SCHEMA gnomon TO")] {
        let role = role(what);
        database.run(&format!("CREATE ROLE \"{role}\" LOGIN")).await;
        let grant = needed(&database, &role).await.unwrap();
        assert!(grant.starts_with(&format!("{sql} \"{role}\"")), "{grant}");
        database.run(&grant).await;
        assert_eq!(needed(&database, &role).await, None);
    }
    let mut decisions = PostgresDecisions::open(database.url_of(&role("late"))).await.unwrap();
    assert_eq!(decisions.put(&[entry("a", "1")]).await.unwrap(), 1);
    for change in ["UPDATE gnomon.decision SET body = NULL", "DELETE FROM gnomon.decision", "UPDATE gnomon.meta SET version = 7"] {
        let role = role("late");
        let as_role = format!("SET ROLE \"{role}\"; {change}");
        let error = sqlx::raw_sql(sqlx::AssertSqlSafe(as_role)).execute(&mut database.admin().await).await.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{error}");
    }
    let Some(other) = Database::new().await else { return };
    other.run("CREATE SCHEMA gnomon").await;
    let grant = needed(&other, &role("first")).await.unwrap();
    other.run(&grant).await;
    assert_eq!(needed(&other, &role("first")).await, None);
}
