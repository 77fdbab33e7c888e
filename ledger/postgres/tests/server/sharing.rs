//! Gnomons of several hosts that heed the same decisions, with the server there and away.

use crate::stage::{Database, Server};
use gnomon_kit::unix_millis;
use gnomon_ledger::{Decided, DecidedBy, Decision, Following, ReviewEntry, ReviewedServer, Standby, reviews_in};
use gnomon_ledger_postgres::PostgresUrl;
use gnomon_observe::Review;
use std::{
    fs,
    time::{Duration, Instant, SystemTime},
};

fn decision(host: &str, state: Review) -> Decision {
    Decision {
        at_ms: 1,
        by: DecidedBy { user: Some("ada".to_owned()), login_uid: Some(1000), uid: 0 },
        server: ReviewedServer { host: host.to_owned(), port: 443 },
        state,
        owner: None,
        reason: None,
        until_ms: None,
    }
}

fn states(decisions: &[Decision]) -> Vec<(&str, Review)> {
    decisions.iter().map(|decision| (decision.server.host.as_str(), decision.state)).collect()
}

/// As somebody who looks each second, but faster.
async fn next(following: &mut Following) -> Vec<Decision> {
    let since = Instant::now();
    loop {
        if let Some(news) = following.news().await {
            return news;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "nothing was decided");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_is_decided_on_one_host_holds_on_the_others_and_goes_on_holding_while_the_server_is_away() {
    let Some(server) = Server::own().await else { return };
    let name = server.database("").await.unwrap();
    let url: PostgresUrl = format!("postgres://admin@:{}/{name}?host={}", server.port, server.folder().display()).parse().unwrap();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let decided = |dir: &tempfile::TempDir| Decided::shared(dir.path(), Some(url.clone()));
    let (mut following, known) = Following::begin(decided(&two));
    assert!(known.is_empty());
    assert!(next(&mut following).await.is_empty());
    assert!(following.news().await.is_none(), "nothing was decided since");

    decided(&one).review(&decision("a.example", Review::Denied)).await.unwrap();
    assert_eq!(states(&next(&mut following).await), [("a.example", Review::Denied)]);
    let server_of = ReviewedServer { host: "a.example".to_owned(), port: 443 };
    assert_eq!(decided(&two).reviews_of(&server_of).await.unwrap().len(), 1);

    // Lines of a file count wherever they were read.
    let line = serde_json::to_string(&decision("b.example", Review::Approved)).unwrap();
    fs::write(reviews_in(two.path()), line + "\n").unwrap();
    let both = [("a.example", Review::Denied), ("b.example", Review::Approved)];
    assert_eq!(states(&next(&mut following).await), both);
    assert_eq!(states(&decided(&one).reviews().await.unwrap()), both);

    // Away: nobody can decide, and who begins meanwhile knows what stood.
    server.stop();
    assert!(following.news().await.is_none());
    let error = decided(&one).review(&decision("c.example", Review::Denied)).await.unwrap_err().to_string();
    assert!(error.contains("cannot connect to "), "{error}");
    let (mut begun, known) = Following::begin(decided(&two));
    assert_eq!(states(&known), both);
    let looked = Instant::now();
    assert!(begun.news().await.is_none());
    assert!(looked.elapsed() < Duration::from_secs(5), "{:?}", looked.elapsed());

    server.start().await;
    decided(&one).review(&decision("a.example", Review::Approved)).await.unwrap();
    for following in [&mut following, &mut begun] {
        let found = next(following).await;
        assert_eq!(states(&found), [("a.example", Review::Approved), ("b.example", Review::Approved)]);
    }
}

#[tokio::test]
async fn two_state_folders_of_one_host_withdraw_nothing_of_each_others_files() {
    let Some(database) = Database::new().await else { return };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let decided = |dir: &tempfile::TempDir| Decided::shared(dir.path(), Some(database.url()));
    let write = |dir: &tempfile::TempDir, hosts: &[&str]| {
        let lines = hosts.iter().map(|host| serde_json::to_string(&decision(host, Review::Denied)).unwrap() + "\n");
        fs::write(reviews_in(dir.path()), lines.collect::<String>()).unwrap();
    };
    write(&one, &["a.example", "b.example"]);
    decided(&one).import().await.unwrap();
    write(&two, &["b.example", "c.example"]);
    decided(&two).import().await.unwrap();
    decided(&one).import().await.unwrap();
    let all = [("a.example", Review::Denied), ("b.example", Review::Denied), ("c.example", Review::Denied)];
    assert_eq!(states(&decided(&one).reviews().await.unwrap()), all);
    // Each withdraws its own, also as another user's process, or after it was started again.
    write(&two, &[]);
    decided(&two).import().await.unwrap();
    assert_eq!(states(&decided(&one).reviews().await.unwrap()), all[..2]);
    let server = ReviewedServer { host: "c.example".to_owned(), port: 443 };
    let history = decided(&one).reviews_of(&server).await.unwrap();
    let Some(ReviewEntry::Withdrawn(withdrawal)) = history.last() else { panic!("{history:?}") };
    assert!(withdrawal.reason.as_ref().unwrap().ends_with("):reviews.jsonl"), "{withdrawal:?}");
}

#[tokio::test]
async fn a_database_that_can_be_read_and_not_written_is_found_out_and_keeps_nothing() {
    let Some(database) = Database::new().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let decided = Decided::shared(dir.path(), Some(database.url()));
    decided.review(&decision("a.example", Review::Denied)).await.unwrap();
    decided.check_keeping().await.unwrap();
    let only = |word: &str| format!("ALTER DATABASE {} SET default_transaction_read_only = {word}", database.name);
    database.run(&only("on")).await;
    decided.check().await.unwrap();
    let error = decided.check_keeping().await.unwrap_err().to_string();
    assert!(error.contains("(25006)") && error.contains("takes no writes"), "{error}");
    let error = decided.review(&decision("b.example", Review::Denied)).await.unwrap_err().to_string();
    assert!(error.contains("(25006)") && error.ends_with("it was not kept"), "{error}");
    // From a database that is not read-only.
    sqlx::raw_sql(sqlx::AssertSqlSafe(only("off"))).execute(&mut database.server.admin("postgres").await).await.unwrap();
    decided.check_keeping().await.unwrap();
    assert_eq!(states(&decided.reviews().await.unwrap()), [("a.example", Review::Denied)], "trying keeps nothing");
}

#[tokio::test]
async fn a_follower_is_not_current_once_a_newer_gnomon_changed_the_schema() {
    let Some(database) = Database::new().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let (mut following, _) = Following::begin(Decided::shared(dir.path(), Some(database.url())));
    following.news().await.unwrap();
    assert!(following.is_current());
    database.run("UPDATE gnomon.meta SET version = version + 1").await;
    assert!(following.news().await.is_none() && !following.is_current());
    database.run("UPDATE gnomon.meta SET version = version - 1").await;
    let since = Instant::now();
    while !following.is_current() {
        assert!(following.news().await.is_none() && since.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_standby_can_be_read_and_says_from_when_what_it_has_is() {
    let Some(server) = Server::own().await else { return };
    let name = server.database("").await.unwrap();
    let url: PostgresUrl = format!("postgres://admin@:{}/{name}?host={}", server.port, server.folder().display()).parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let decided = Decided::shared(dir.path(), Some(url.clone()));
    let before = unix_millis(SystemTime::now());
    decided.review(&decision("a.example", Review::Denied)).await.unwrap();
    assert_eq!(decided.standby().await.unwrap(), None);
    server.follow().await;
    let Standby { at, changed_ms } = decided.standby().await.unwrap().unwrap();
    assert!(at == url.to_string() && (before..=unix_millis(SystemTime::now())).contains(&changed_ms), "{at} {before} {changed_ms}");
    assert_eq!(states(&decided.reviews().await.unwrap()), [("a.example", Review::Denied)]);
    let error = decided.review(&decision("b.example", Review::Denied)).await.unwrap_err().to_string();
    assert!(error.contains("takes no writes"), "{error}");
}
