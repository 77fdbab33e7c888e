//! Servers that end, stall and say nothing, and networks that break: a call ends in time, says what may have been kept, and the
//! next one works where it can.

use crate::{
    relay::{Network, Relay},
    stage::{Database, Server, entry, timed},
};
use gnomon_ledger_model::{Decisions as _, KeptEntry};
use gnomon_ledger_postgres::{CALL, PostgresDecisions, PostgresUrl};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// What a call may take, on a machine that is busy.
const BOUND: Duration = CALL.saturating_add(Duration::from_millis(1500));

#[tokio::test]
async fn after_a_server_was_killed_and_started_again_the_next_call_works() {
    let Some(server) = Server::own().await else { return };
    let name = server.database("").await.unwrap();
    let url: PostgresUrl = format!("postgres://admin@:{}/{name}?host={}", server.port, server.folder().display()).parse().unwrap();
    let mut decisions = PostgresDecisions::open(url.clone()).await.unwrap();
    let mut follower = PostgresDecisions::open(url.clone()).await.unwrap();
    assert_eq!(decisions.put(&[entry("a", "1")]).await.unwrap(), 1);
    // Nobody asked in between.
    server.stop();
    server.start().await;
    assert_eq!(decisions.put(&[entry("a", "2")]).await.unwrap(), 2);
    assert_eq!(follower.newest().await.unwrap(), 2);
    // Somebody did.
    server.stop();
    for _ in 0..2 {
        let (error, took) = timed(decisions.put(&[entry("a", "lost")])).await;
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot connect to {url}: ")) && error.ends_with("does it listen there?"), "{error}");
        assert!(took < BOUND, "{took:?}");
    }
    assert!(follower.newest().await.is_err());
    server.start().await;
    assert_eq!(follower.newest().await.unwrap(), 2);
    assert_eq!(decisions.put(&[entry("a", "3")]).await.unwrap(), 3);
    Box::new(decisions).close().await.unwrap();
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://ada@localhost:{}/d", listener.local_addr().unwrap().port());
    let (error, took) = timed(PostgresDecisions::open(url.parse().unwrap())).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("no answer within 3 s") && took < BOUND, "{error}, {took:?}");
}

#[tokio::test]
async fn a_network_that_goes_silent_holds_no_call_for_long_and_the_next_one_works_when_it_is_back() {
    let Some(database) = Database::new().await else { return };
    let relay = Relay::to(database.server);
    let mut decisions = PostgresDecisions::open(relay.url(&database)).await.unwrap();
    decisions.put(&[entry("a", "1")]).await.unwrap();
    relay.set(Network::Silent);
    let (error, took) = timed(decisions.newest()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("did not answer within 3 s") && took < BOUND, "{error}, {took:?}");
    // Nor one that has to connect.
    let (error, took) = timed(decisions.put(&[entry("a", "2")])).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("no answer within 3 s") && took < BOUND, "{error}, {took:?}");
    relay.set(Network::Sound);
    assert_eq!(decisions.newest().await.unwrap(), 1);
    assert_eq!(decisions.put(&[entry("a", "2")]).await.unwrap(), 2);
}

#[tokio::test]
async fn a_commit_that_is_not_confirmed_may_have_been_kept_and_is_not_tried_again() {
    let Some(database) = Database::new().await else { return };
    let relay = Relay::to(database.server);
    let mut decisions = PostgresDecisions::open(relay.url(&database)).await.unwrap();
    for (number, network) in [(1, Network::CutAtCommit), (2, Network::SilentAtCommit)] {
        relay.set(network);
        let (error, took) = timed(decisions.put(&[entry("a", "1")])).await;
        let error = error.unwrap_err().to_string();
        assert!(error.ends_with("it may have been kept: look before deciding again") && took < BOUND, "{error}, {took:?}");
        relay.set(Network::Sound);
        assert_eq!(decisions.newest().await.unwrap(), number);
    }
}

#[tokio::test]
async fn a_writer_that_does_not_get_the_turn_gets_an_error_and_nothing_is_lost() {
    let Some(database) = Database::new().await else { return };
    let mut decisions = PostgresDecisions::open(database.url()).await.unwrap();
    let mut other = database.admin().await;
    sqlx::raw_sql("SELECT pg_advisory_lock(x'676e6f6d6f6e'::bigint)").execute(&mut other).await.unwrap();
    let (error, took) = timed(decisions.put(&[entry("a", "1")])).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("statement timeout") && error.ends_with("try again") && took < BOUND, "{error}, {took:?}");
    // Whoever reads needs no turn.
    assert_eq!(decisions.newest().await.unwrap(), 0);
    drop(other);
    let mut patience = 50;
    while let Err(error) = decisions.put(&[entry("a", "1"), entry("a", "2")]).await {
        patience -= 1;
        assert!(patience > 0, "{error}");
    }
    assert_eq!(decisions.after(0, 10).await.unwrap().iter().map(|kept| kept.number).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn a_writer_that_froze_in_its_turn_loses_it() {
    let Some(database) = Database::new().await else { return };
    let relay = Relay::to(database.server);
    let mut frozen = PostgresDecisions::open(relay.url(&database)).await.unwrap();
    let mut other = PostgresDecisions::open(database.url()).await.unwrap();
    relay.set(Network::SilentInTurn);
    let put = [entry("a", "frozen")];
    let others = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut patience = 5;
        while let Err(error) = other.put(&[entry("a", "other")]).await {
            patience -= 1;
            assert!(patience > 0, "{error}");
        }
    };
    let (error, ((), took)) = tokio::join!(frozen.put(&put), timed(others));
    assert!(error.is_err() && took < BOUND, "{took:?}");
    assert_eq!(other.about(gnomon_ledger_model::Topic::Review, "a").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_call_that_is_given_up_keeps_nothing_and_harms_no_other() {
    let Some(database) = Database::new().await else { return };
    let mut decisions = PostgresDecisions::open(database.url()).await.unwrap();
    let mut other = database.admin().await;
    sqlx::raw_sql("SELECT pg_advisory_lock(x'676e6f6d6f6e'::bigint)").execute(&mut other).await.unwrap();
    let put = [entry("a", "1")];
    assert!(tokio::time::timeout(Duration::from_millis(300), decisions.put(&put)).await.is_err());
    sqlx::raw_sql("SELECT pg_advisory_unlock(x'676e6f6d6f6e'::bigint)").execute(&mut other).await.unwrap();
    assert_eq!(decisions.put(&[entry("b", "1")]).await.unwrap(), 1);
    assert_eq!(decisions.after(0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_reported_and_still_read() {
    let Some(database) = Database::new().await else { return };
    let mut decisions = PostgresDecisions::open(database.url()).await.unwrap();
    decisions.put(&[entry("a", "1")]).await.unwrap();
    database.run(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name)).await;
    let mut decisions = PostgresDecisions::open(database.url()).await.unwrap();
    let error = decisions.put(&[entry("a", "2")]).await.unwrap_err().to_string();
    assert!(error.ends_with("this server takes no writes: name the primary in the URL"), "{error}");
    assert_eq!(decisions.newest().await.unwrap(), 1);
}

#[tokio::test]
async fn defaults_of_the_role_change_neither_bounds_nor_order() {
    let Some(database) = Database::new().await else { return };
    for default in
        ["statement_timeout = 0", "default_transaction_isolation = 'serializable'", "search_path = public", "synchronous_commit = off"]
    {
        database.run(&format!("ALTER DATABASE {} SET {default}", database.name)).await;
    }
    let (mut one, mut two) =
        (PostgresDecisions::open(database.url()).await.unwrap(), PostgresDecisions::open(database.url()).await.unwrap());
    for number in 0..20 {
        let put = [entry("a", "1")];
        let (first, second) = tokio::join!(one.put(&put), two.put(&put));
        assert_eq!(first.unwrap() + second.unwrap(), 4 * number + 3);
    }
}

/// What a writer was told of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Kept,
    MaybeKept,
    NotKept,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_writers_are_told_is_true_and_a_follower_misses_nothing_though_connections_end_at_any_moment() {
    let Some(database) = Database::new().await else { return };
    let end = Instant::now() + Duration::from_secs(3);
    let mut tasks = Vec::new();
    for writer in 0..4 {
        let mut decisions = PostgresDecisions::open(database.url()).await.unwrap();
        tasks.push(tokio::spawn(async move {
            let mut told = Vec::new();
            while Instant::now() < end {
                let subject = format!("{writer}-{}", told.len());
                let of_this = match decisions.put(&[entry(&subject, "1"), entry(&subject, "2")]).await {
                    Ok(_) => Told::Kept,
                    Err(error) if error.to_string().contains("may have been kept") => Told::MaybeKept,
                    Err(_) => Told::NotKept,
                };
                told.push((subject, of_this));
            }
            told
        }));
    }
    let mut follower = PostgresDecisions::open(database.url()).await.unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let seen = tokio::spawn({
        let ended = ended.clone();
        async move {
            let mut seen: Vec<KeptEntry> = Vec::new();
            loop {
                let is_last = ended.load(Ordering::Acquire);
                match follower.after(seen.last().map_or(0, |kept| kept.number), 1000).await {
                    Ok(found) if found.is_empty() && is_last => return seen,
                    Ok(found) => seen.extend(found),
                    Err(_) => {}
                }
            }
        }
    });
    let mut admin = database.admin().await;
    while Instant::now() < end {
        let one = "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity
             WHERE application_name = 'gnomon' AND datname = current_database() ORDER BY random() LIMIT 1) AS one";
        sqlx::raw_sql(one).execute(&mut admin).await.unwrap();
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    let mut told = Vec::new();
    for task in tasks {
        told.extend(task.await.unwrap());
    }
    ended.store(true, Ordering::Release);
    let seen = seen.await.unwrap();
    let numbers: Vec<_> = seen.iter().map(|kept| kept.number).collect();
    assert_eq!(numbers, (1..).take(seen.len()).collect::<Vec<_>>());
    for (subject, told) in &told {
        let times = seen.iter().filter(|kept| kept.entry.subject == *subject).count();
        let holds = match told {
            Told::Kept => times == 2,
            Told::MaybeKept => times == 0 || times == 2,
            Told::NotKept => times == 0,
        };
        assert!(holds, "{subject}: {told:?}, and there are {times}");
    }
    assert!(told.iter().any(|(_, told)| *told == Told::Kept));
}
