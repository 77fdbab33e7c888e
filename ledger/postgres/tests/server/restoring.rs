//! A journal that is not the one that was read: restored, made anew, moved.

use crate::stage::Database;
use gnomon_ledger::{Decided, DecidedBy, DecidedError, Decision, Following, ReviewedServer, VerdictKind};
use gnomon_ledger_postgres::PostgresDecisions;
use gnomon_observe::Review;
use std::{fs, path::PathBuf};
use tempfile::TempDir;

/// One host, and what holds there.
struct Host {
    dir: TempDir,
    decided: Decided,
    following: Following,
    in_force: Vec<Decision>,
}

impl Host {
    fn begin(dir: TempDir, database: &Database) -> Self {
        let decided = || Decided::shared(dir.path(), Some(database.url()));
        let (following, in_force) = Following::begin(decided());
        Self { decided: decided(), following, in_force, dir }
    }

    fn new(database: &Database) -> Self {
        Self::begin(tempfile::tempdir().unwrap(), database)
    }

    fn restarted(self, database: &Database) -> Self {
        Self::begin(self.dir, database)
    }

    async fn look(&mut self) -> Vec<(&str, Review)> {
        if let Some(news) = self.following.news().await {
            self.in_force = news;
        }
        self.in_force.sort_by(|one, other| one.server.cmp(&other.server));
        self.in_force.iter().map(|decision| (decision.server.host.as_str(), decision.state)).collect()
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("decisions.cache")
    }

    async fn decide(&self, host: &str, state: Review, at_ms: i64) {
        self.decided.review(&decision(host, state, at_ms)).await.unwrap();
    }

    async fn is_contradicted(&self, how: &str) {
        for error in [self.decided.check().await, self.decided.reviews().await.map(drop)] {
            let error = error.unwrap_err();
            assert!(matches!(error, DecidedError::Contradicted { .. }) && error.to_string().contains(how), "{error}");
        }
    }
}

fn decision(host: &str, state: Review, at_ms: i64) -> Decision {
    Decision {
        at_ms,
        by: DecidedBy { user: Some("ada".to_owned()), login_uid: Some(1000), uid: 0 },
        server: ReviewedServer { host: host.to_owned(), port: 443 },
        state,
        owner: None,
        reason: None,
        until_ms: (state == Review::Approved).then_some(i64::MAX),
    }
}

/// As a backup leaves it that was made after so many entries.
async fn restore(database: &Database, entries: i64) {
    database.run(&format!("DELETE FROM gnomon.decision WHERE number > {entries}; UPDATE gnomon.meta SET newest = {entries}")).await;
}

const A_DENIED: (&str, Review) = ("a.example", Review::Denied);
const B_DENIED: (&str, Review) = ("b.example", Review::Denied);
const B_APPROVED: (&str, Review) = ("b.example", Review::Approved);

#[tokio::test]
async fn a_denial_in_a_restored_journal_holds_at_once_and_the_journal_only_when_a_person_says_so() {
    let Some(database) = Database::new().await else { return };
    let (mut one, two) = (Host::new(&database), Host::new(&database));
    one.decide("a.example", Review::Denied, 1).await;
    one.decide("b.example", Review::Approved, 2).await;
    one.decide("c.example", Review::Approved, 3).await;
    assert_eq!(one.look().await.len(), 3);
    restore(&database, 1).await;
    // The same numbers, for something else.
    two.decide("d.example", Review::Approved, 4).await;
    two.decide("b.example", Review::Denied, 5).await;
    for _ in 0..3 {
        assert_eq!(one.look().await, [A_DENIED, B_DENIED, ("c.example", Review::Approved)]);
        assert!(!one.following.is_current());
    }
    one.is_contradicted("has another entry 3 than the one that was read").await;
    two.decided.check().await.unwrap();
    // Also for who starts meanwhile, whether the journal can be read by then or not, and for whoever asks.
    let recalled = one.decided.recalled().unwrap().unwrap().reviews;
    let mut one = one.restarted(&database);
    assert_eq!(recalled, one.in_force);
    assert_eq!(one.in_force.iter().filter(|decision| decision.state == Review::Denied).count(), 2);
    assert_eq!(one.look().await, [A_DENIED, B_DENIED, ("c.example", Review::Approved)]);
    assert!(!one.following.is_current());
    fs::remove_file(one.cache()).unwrap();
    assert_eq!(one.look().await, [A_DENIED, B_DENIED, ("d.example", Review::Approved)]);
    assert!(one.following.is_current());
    one.decided.check().await.unwrap();
}

#[tokio::test]
async fn a_journal_that_went_back_takes_no_denial_out_of_force() {
    let Some(database) = Database::new().await else { return };
    let mut host = Host::new(&database);
    host.decide("b.example", Review::Denied, 1).await;
    host.decide("b.example", Review::Approved, 2).await;
    host.decide("a.example", Review::Denied, 3).await;
    assert_eq!(host.look().await, [A_DENIED, B_APPROVED]);
    restore(&database, 1).await;
    // An older denial does not overrule what was decided later.
    assert_eq!(host.look().await, [A_DENIED, B_APPROVED]);
    assert!(!host.following.is_current());
    host.is_contradicted("went back from entry 3 to entry 1").await;
    // What is lost is decided again, and then the journal is right.
    host.decide("a.example", Review::Denied, 4).await;
    fs::remove_file(host.cache()).unwrap();
    assert_eq!(host.look().await, [A_DENIED, B_DENIED]);
    assert!(host.following.is_current());
}

#[tokio::test]
async fn tables_that_were_made_anew_are_another_journal() {
    let Some(database) = Database::new().await else { return };
    let mut host = Host::new(&database);
    host.decide("a.example", Review::Denied, 1).await;
    assert_eq!(host.look().await, [A_DENIED]);
    database.run("DROP SCHEMA gnomon CASCADE").await;
    drop(PostgresDecisions::open(database.url()).await.unwrap());
    let mut host = host.restarted(&database);
    assert_eq!(host.look().await, [A_DENIED]);
    assert!(!host.following.is_current());
    host.is_contradicted("its tables were made anew").await;
    assert_eq!(host.decided.recalled().unwrap().unwrap().reviews.len(), 1);
}

#[tokio::test]
async fn a_journal_that_is_again_the_one_that_was_read_is_followed() {
    let Some(database) = Database::new().await else { return };
    let mut host = Host::new(&database);
    host.decide("a.example", Review::Denied, 1).await;
    host.decide("b.example", Review::Approved, 2).await;
    assert_eq!(host.look().await, [A_DENIED, B_APPROVED]);
    let (aside, back) =
        ("CREATE TABLE aside AS SELECT * FROM gnomon.decision", "INSERT INTO gnomon.decision SELECT * FROM aside WHERE number > 1");
    database.run(aside).await;
    restore(&database, 1).await;
    assert_eq!(host.look().await, [A_DENIED, B_APPROVED]);
    assert!(!host.following.is_current());
    database.run(back).await;
    database.run("UPDATE gnomon.meta SET newest = 2").await;
    host.decide("b.example", Review::Denied, 3).await;
    assert_eq!(host.look().await, [A_DENIED, B_DENIED]);
    assert!(host.following.is_current());
}

#[tokio::test]
async fn a_journal_that_lacks_an_entry_in_the_middle_or_has_one_changed_takes_no_denial_out_of_force() {
    for (sql, how) in [
        ("DELETE FROM gnomon.decision WHERE number = 1", "has 2 entries up to 3, of 3 that were read"),
        ("UPDATE gnomon.decision SET body = replace(body, 'denied', 'approved') WHERE number = 1", "has an entry up to 3 that is another"),
    ] {
        let Some(database) = Database::new().await else { return };
        let mut host = Host::new(&database);
        host.decide("a.example", Review::Denied, 1).await;
        host.decide("b.example", Review::Approved, 2).await;
        host.decide("c.example", Review::Approved, 3).await;
        assert_eq!(host.look().await.len(), 3);
        database.run(sql).await;
        host.is_contradicted(how).await;
        // Who starts now compares it all.
        host = host.restarted(&database);
        assert_eq!(host.look().await.first(), Some(&A_DENIED), "{sql}");
        assert!(!host.following.is_current());
        // Somebody else may know nothing of it, and decide.
        Host::new(&database).decide("b.example", Review::Denied, 4).await;
        assert_eq!(host.look().await, [A_DENIED, B_DENIED, ("c.example", Review::Approved)], "{sql}");
        assert!(!host.following.is_current());
        fs::remove_file(host.cache()).unwrap();
        assert_ne!(host.look().await.first(), Some(&A_DENIED), "{sql}");
        assert!(host.following.is_current());
    }
}

#[tokio::test]
async fn a_follower_holds_a_journal_that_lacks_an_entry_once_a_new_entry_would_count() {
    let Some(database) = Database::new().await else { return };
    let mut host = Host::new(&database);
    host.decide("a.example", Review::Denied, 1).await;
    host.decide("b.example", Review::Approved, 2).await;
    assert_eq!(host.look().await, [A_DENIED, B_APPROVED]);
    database.run("DELETE FROM gnomon.decision WHERE number = 1").await;
    host.decide("c.example", Review::Approved, 3).await;
    assert_eq!(host.look().await, [A_DENIED, B_APPROVED]);
    assert!(!host.following.is_current());
}

#[tokio::test]
async fn numbers_that_are_left_out_of_what_is_new_contradict_a_journal() {
    let Some(database) = Database::new().await else { return };
    let mut host = Host::new(&database);
    host.decide("a.example", Review::Denied, 1).await;
    assert_eq!(host.look().await, [A_DENIED]);
    host.decide("b.example", Review::Denied, 2).await;
    host.decide("b.example", Review::Approved, 3).await;
    database.run("DELETE FROM gnomon.decision WHERE number = 2").await;
    assert_eq!(host.look().await, [A_DENIED]);
    host.is_contradicted("lacks entries between 1 and 3").await;
}

#[tokio::test]
async fn a_journal_from_before_journals_had_ids_is_read_on() {
    let Some(database) = Database::new().await else { return };
    let mut host = Host::new(&database);
    host.decide("a.example", Review::Denied, 1).await;
    host.decide("b.example", Review::Approved, 2).await;
    let before =
        "ALTER TABLE gnomon.meta DROP COLUMN journal; ALTER TABLE gnomon.decision DROP COLUMN mark; UPDATE gnomon.meta SET version = 1";
    database.run(before).await;
    // As an earlier version wrote it down.
    let line = serde_json::to_string(&decision("a.example", Review::Denied, 1)).unwrap();
    fs::write(host.cache(), line + "\n").unwrap();
    host = host.restarted(&database);
    assert_eq!(host.look().await, [A_DENIED, B_APPROVED]);
    assert!(host.following.is_current());
    let marks: (i64, i64) = sqlx::query_as("SELECT count(DISTINCT mark), count(DISTINCT journal) FROM gnomon.decision, gnomon.meta")
        .fetch_one(&mut database.admin().await)
        .await
        .unwrap();
    assert_eq!(marks, (2, 1));
}

#[tokio::test]
async fn the_time_of_the_last_reading_is_in_the_file_and_not_its_modification_time() {
    let Some(database) = Database::new().await else { return };
    let mut host = Host::new(&database);
    host.decide("a.example", Review::Denied, 1).await;
    let verdict = gnomon_ledger::Verdict {
        event: "one".to_owned(),
        kind: VerdictKind::Benign,
        owner: "soc".to_owned(),
        reason: "r".to_owned(),
        until: None,
        file: None,
    };
    host.decided.judge(&verdict, DecidedBy { user: None, login_uid: None, uid: 0 }, 1).await.unwrap();
    host.look().await;
    for cache in [host.cache(), host.dir.path().join("verdicts.cache")] {
        fs::File::options().write(true).open(cache).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    }
    let (reviews, verdicts) = (host.decided.recalled().unwrap().unwrap(), host.decided.recalled_verdicts("one").unwrap().unwrap());
    assert!(reviews.as_of.elapsed().unwrap().as_secs() < 60 && reviews.as_of == verdicts.as_of);
    assert_eq!((reviews.reviews.len(), reviews.unreadable.len(), verdicts.verdicts.len()), (1, 0, 1));
}
