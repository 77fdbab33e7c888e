//! Retention takes away the oldest records; the rest can still be verified.

use crate::stage::{Stage, record, until};
use gnomon_audit::{AuditOptions, Expect, Finding, SqliteStore, Store};
use std::time::{Duration, SystemTime};

#[tokio::test]
async fn what_is_older_than_retention_goes_and_the_rest_stays_sound() {
    let stage = Stage::new();
    stage.play(2, 5).await;
    let options = AuditOptions { checkpoint_every: Duration::from_millis(10), retention: Some(Duration::ZERO), ..AuditOptions::default() };
    let (audit, writer) = stage.open(options).await;
    audit.record_durably(record("anna", "x")).await.unwrap();
    until(|| audit.counts().checkpoints >= 1).await;
    writer.shutdown().await;
    assert!(audit.counts().forgotten >= 10, "what goes is counted");
    let report = stage.verify().await;
    assert!(report.is_sound(), "{report}");
    assert!(report.range.is_none_or(|(first, _)| first > 10), "{report}");
}

#[tokio::test]
async fn a_clock_that_jumped_takes_no_record_away_because_of_a_restart() {
    let stage = Stage::new();
    stage.play(2, 5).await;
    // As if they were written forty days ago, and the clock jumped since, and a process that had it wrote one more.
    stage
        .attack("DROP TRIGGER record_stays; UPDATE record SET at_ms = at_ms - 3456000000 WHERE seq < 10; UPDATE checkpoint SET at_ms = at_ms - 3456000000")
        .await;
    let now_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    std::fs::write(stage.path("audit.clock"), format!("{:512}", format!("{} {now_ms} 1000", now_ms - 3_456_000_000))).unwrap();
    let retention = Some(Duration::from_secs(30 * 86400));
    let options = AuditOptions { checkpoint_every: Duration::from_millis(10), retention, ..AuditOptions::default() };
    let (audit, writer) = stage.open(options).await;
    audit.record_durably(record("anna", "x")).await.unwrap();
    until(|| audit.counts().checkpoints >= 1).await;
    writer.shutdown().await;
    assert_eq!((stage.entries().await.len(), audit.counts().forgotten), (11, 0));
}

/// The time as the file of a clock has it that was believed until now.
fn believed(now_ms: i64) -> String {
    format!("{:512}", format!("{now_ms} {now_ms} 0"))
}

fn now_ms() -> i64 {
    gnomon_kit::unix_millis(SystemTime::now())
}

const TWO_YEARS: i64 = 2 * 365 * 24 * 60 * 60 * 1000;

#[tokio::test]
async fn a_clock_that_was_behind_for_seconds_takes_no_record_away() {
    let stage = Stage::new();
    stage.play(2, 5).await;
    // What a process leaves whose clock was two years behind: records and a checkpoint that say so.
    stage.play(1, 2).await;
    stage
        .attack("DROP TRIGGER record_stays; UPDATE record SET at_ms = at_ms - 63072000000 WHERE seq > 10; UPDATE checkpoint SET at_ms = at_ms - 63072000000 WHERE number = 3")
        .await;
    let options = AuditOptions { checkpoint_every: Duration::from_millis(10), ..AuditOptions::default() };
    let (audit, writer) = stage.open(options).await;
    audit.record_durably(record("anna", "x")).await.unwrap();
    until(|| audit.counts().checkpoints >= 1).await;
    writer.shutdown().await;
    assert_eq!((stage.entries().await.len(), audit.counts().forgotten), (13, 0));
}

#[tokio::test]
async fn what_is_recorded_while_the_clock_is_behind_is_dated_by_what_is_known() {
    let stage = Stage::new();
    // The clock was right two years ahead of now, and went back.
    std::fs::write(stage.path("audit.clock"), believed(now_ms() + TWO_YEARS)).unwrap();
    let (audit, writer) = stage.open(AuditOptions::default()).await;
    audit.record_durably(record("anna", "x")).await.unwrap();
    assert!(audit.counts().clock_ahead_s < -TWO_YEARS / 1000 + 60, "{:?}", audit.counts());
    writer.shutdown().await;
    let mut store = SqliteStore::read(&stage.path("audit.sqlite")).await.unwrap();
    let last = store.last_checkpoint().await.unwrap().unwrap();
    assert!(last.not_younger_ms > now_ms() + TWO_YEARS - 60_000, "{last:?}");
    // Seen from then, with a retention of a year.
    let then = now_ms() + TWO_YEARS;
    assert!(store.all_older(then - TWO_YEARS / 2, then).await.unwrap().is_none());
}

#[tokio::test]
async fn a_clock_that_is_behind_the_newest_record_is_doubted_where_nothing_else_is_known() {
    let stage = Stage::new();
    stage.play(1, 2).await;
    stage.attack("DROP TRIGGER record_stays; UPDATE record SET at_ms = at_ms + 63072000000").await;
    std::fs::remove_file(stage.path("audit.clock")).unwrap();
    let (audit, writer) = stage.open(AuditOptions::default()).await;
    until(|| audit.counts().clock_ahead_s < -TWO_YEARS / 1000 + 60).await;
    writer.shutdown().await;
}

#[tokio::test]
async fn a_record_of_the_future_keeps_no_other_from_being_removed() {
    let stage = Stage::new();
    stage.play(2, 5).await;
    stage.attack("DROP TRIGGER record_stays; UPDATE record SET at_ms = at_ms + 63072000000 WHERE seq = 3").await;
    let mut store = SqliteStore::read(&stage.path("audit.sqlite")).await.unwrap();
    let later = now_ms() + 60_000;
    assert_eq!(store.all_older(later, later).await.unwrap().unwrap().head.seq, 10);
    assert!(store.all_older(later, later + TWO_YEARS).await.unwrap().is_none());
}

#[tokio::test]
async fn taking_away_more_than_retention_promises_is_found() {
    let stage = Stage::new();
    stage.play(2, 5).await;
    let checkpoints = stage.checkpoints();
    // What an attacker does who knows how retention works.
    SqliteStore::open(&stage.path("audit.sqlite"), 1 << 30).await.unwrap().trim(checkpoints[0].head).await.unwrap();
    let a_day_ago = SystemTime::now() - Duration::from_secs(86400);
    let report = stage.verify_with(&checkpoints, Expect { kept_since: Some(a_day_ago) }).await;
    assert_eq!(report.findings, [Finding::TrimmedTooMuch { seq: 5, at: checkpoints[0].at.clone() }]);
    assert!(stage.verify_with(&checkpoints, Expect { kept_since: Some(SystemTime::now() + Duration::from_secs(60)) }).await.is_sound());
}

#[tokio::test]
async fn a_beginning_that_no_checkpoint_knows_is_found() {
    let stage = Stage::new();
    stage.play(2, 5).await;
    let third = stage.entries().await[2].head;
    SqliteStore::open(&stage.path("audit.sqlite"), 1 << 30).await.unwrap().trim(third).await.unwrap();
    assert_eq!(stage.verify().await.findings, [Finding::Beginning { seq: 4 }]);
}
