//! What is written when, and what happens when it cannot be.

use crate::stage::{Stage, record, until};
use gnomon_audit::{
    Audit, AuditOptions, ChainId, Head, KeptCheckpoint, MAX_WAITING, NotWritten, OpensStore, Recorded, SigningKey, SqliteStore, Store,
    StoreError, Stored, StoredRecord,
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

#[tokio::test]
async fn a_record_that_is_waited_for_is_in_the_file_when_the_wait_ends() {
    let stage = Stage::new();
    let (audit, writer) = stage.open(AuditOptions::default()).await;
    for n in 1..=3 {
        assert_eq!(audit.record_durably(record("anna", "x")).await, Ok(n));
        assert_eq!(stage.entries().await.len() as u64, n);
    }
    writer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_recorders_share_commits_and_none_is_lost() {
    let stage = Stage::new();
    let (audit, writer) = stage.open(AuditOptions::default()).await;
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let audit = audit.clone();
            tokio::spawn(async move {
                for m in 0..50 {
                    if m % 10 == 0 {
                        audit.record_durably(record("anna", &format!("{n}"))).await.unwrap();
                    } else {
                        assert_eq!(audit.record(record("anna", &format!("{n}"))), Recorded::Queued);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    writer.shutdown().await;
    assert_eq!(audit.counts().written, 400);
    let report = stage.verify().await;
    assert!(report.is_sound() && report.records == 400, "{report}");
}

#[tokio::test]
async fn what_comes_after_the_end_is_lost_and_counted() {
    let stage = Stage::new();
    let (audit, writer) = stage.open(AuditOptions::default()).await;
    writer.shutdown().await;
    assert_eq!(audit.record(record("anna", "x")), Recorded::Lost);
    assert_eq!(audit.record_durably(record("anna", "x")).await, Err(NotWritten));
    assert_eq!(audit.counts().lost, 2);
}

/// A process that records one act and is killed before its first checkpoint is due; the number of checkpoints that left it.
fn killed_early(stage: &Stage, user: &str) -> usize {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sent = || std::fs::read_to_string(stage.path("away.jsonl")).map_or(0, |lines| lines.lines().count());
    let before = sent();
    let (audit, writer) = runtime.block_on(async {
        let (audit, writer) = stage.open(AuditOptions::default()).await;
        audit.record_durably(record(user, "x")).await.unwrap();
        until(|| (sent() - before) as u64 == audit.counts().checkpoints).await;
        (audit, writer)
    });
    drop(runtime);
    drop((audit, writer));
    sent() - before
}

#[test]
fn records_of_processes_that_end_before_their_first_checkpoint_are_confirmed_by_the_next_start_unless_they_are_torn() {
    let stage = Stage::new();
    assert_eq!(killed_early(&stage, "anna"), 0, "its first is not due");
    for user in ["bert", "cleo"] {
        assert_eq!(killed_early(&stage, user), 1);
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let report = stage.verify().await;
        assert!(report.is_sound(), "{report}");
        assert_eq!((report.records, report.unconfirmed), (3, 1));
        stage.attack("DROP TRIGGER record_stays; UPDATE record SET body = replace(body, 'cleo', 'clea') WHERE seq = 3").await;
    });
    assert_eq!(killed_early(&stage, "dora"), 0, "nothing vouches for what was changed meanwhile");
}

#[tokio::test]
async fn a_full_queue_loses_new_records_and_the_chain_says_how_many() {
    let stage = Stage::new();
    let (audit, writer) = stage.open(AuditOptions::default()).await;
    // Nothing is awaited here, so the writer has no turn.
    let lost = (0..MAX_WAITING + 7).filter(|_| audit.record(record("anna", "x")) == Recorded::Lost).count();
    assert_eq!(lost, 7);
    writer.shutdown().await;
    let report = stage.verify().await;
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.lost, report.records), (7, MAX_WAITING as u64 + 1));
}

/// A store whose disk is full when somebody says so.
struct Failing {
    inner: SqliteStore,
    full: Arc<AtomicBool>,
}

impl Store for Failing {
    fn chain(&self) -> ChainId {
        self.inner.chain()
    }
    fn anchor(&mut self) -> Stored<'_, Head> {
        self.inner.anchor()
    }
    fn head(&mut self) -> Stored<'_, Head> {
        self.inner.head()
    }
    fn append<'a>(&'a mut self, entries: &'a [StoredRecord]) -> Stored<'a, ()> {
        if self.full.load(Ordering::SeqCst) {
            return Box::pin(async { Err(StoreError::Database("disk full".to_owned())) });
        }
        self.inner.append(entries)
    }
    fn after(&mut self, seq: u64, limit: u32) -> Stored<'_, Vec<StoredRecord>> {
        self.inner.after(seq, limit)
    }
    fn upto(&mut self, seq: u64) -> Stored<'_, u64> {
        self.inner.upto(seq)
    }
    fn keep<'a>(&'a mut self, checkpoint: &'a KeptCheckpoint) -> Stored<'a, ()> {
        self.inner.keep(checkpoint)
    }
    fn last_checkpoint(&mut self) -> Stored<'_, Option<KeptCheckpoint>> {
        self.inner.last_checkpoint()
    }
    fn all_older(&mut self, before_ms: i64, now_ms: i64) -> Stored<'_, Option<KeptCheckpoint>> {
        self.inner.all_older(before_ms, now_ms)
    }
    fn checkpoints(&mut self) -> Stored<'_, Vec<String>> {
        self.inner.checkpoints()
    }
    fn trim(&mut self, upto: Head) -> Stored<'_, ()> {
        self.inner.trim(upto)
    }
    fn is_in_place(&self) -> bool {
        self.inner.is_in_place()
    }
    fn close(self: Box<Self>) -> Stored<'static, ()> {
        Box::new(self.inner).close()
    }
}

#[tokio::test]
async fn while_the_disk_is_full_records_fail_and_afterwards_the_chain_says_so() {
    let stage = Stage::new();
    let full = Arc::new(AtomicBool::new(false));
    let inner = SqliteStore::open(&stage.path("audit.sqlite"), 1 << 30).await.unwrap();
    let store = Failing { inner, full: full.clone() };
    let away = gnomon_audit::FileSink::new(stage.path("away.jsonl"));
    let (audit, writer) = Audit::start(Box::new(store), stage.key(), vec![Box::new(away)], AuditOptions::default()).await.unwrap();
    audit.record_durably(record("anna", "before")).await.unwrap();
    full.store(true, Ordering::SeqCst);
    assert_eq!(audit.record_durably(record("anna", "during")).await, Err(NotWritten));
    let _ = audit.record(record("anna", "during"));
    until(|| audit.counts().lost == 2).await;
    full.store(false, Ordering::SeqCst);
    assert_eq!(audit.record_durably(record("anna", "after")).await, Ok(3), "behind the record of the loss");
    writer.shutdown().await;
    let report = stage.verify().await;
    assert!(report.is_sound() && report.lost == 2, "{report}");
}

/// Loses two records to a full disk, and stops.
async fn two_are_lost(stage: &Stage, losses: &Path) {
    let full = Arc::new(AtomicBool::new(false));
    let inner = SqliteStore::open(&stage.path("audit.sqlite"), 1 << 30).await.unwrap();
    let store = Failing { inner, full: full.clone() };
    let options = AuditOptions { losses: Some(losses.to_owned()), ..AuditOptions::default() };
    let (audit, writer) = Audit::start(Box::new(store), stage.key(), Vec::new(), options).await.unwrap();
    audit.record_durably(record("anna", "before")).await.unwrap();
    full.store(true, Ordering::SeqCst);
    assert_eq!(audit.record_durably(record("anna", "during")).await, Err(NotWritten));
    assert_eq!(audit.record(record("anna", "during")), Recorded::Queued);
    writer.shutdown().await;
}

#[tokio::test]
async fn what_a_full_disk_did_not_take_is_told_by_the_next_start_once() {
    let stage = Stage::new();
    let losses = stage.path("audit.lost");
    two_are_lost(&stage, &losses).await;
    let said = std::fs::read(&losses).unwrap();
    let options = || AuditOptions { losses: Some(losses.clone()), ..AuditOptions::default() };
    let (audit, writer) = stage.open(options()).await;
    until(|| audit.counts().written == 1).await;
    assert_eq!(audit.counts().lost, 2);
    writer.shutdown().await;
    let report = stage.verify().await;
    assert!(report.is_sound() && report.lost == 2, "{report}");
    // It ended before it could keep that it had told.
    std::fs::write(&losses, said).unwrap();
    for _ in 0..2 {
        let (audit, writer) = stage.open(options()).await;
        audit.record_durably(record("anna", "after")).await.unwrap();
        assert_eq!(audit.counts().lost, 0);
        writer.shutdown().await;
    }
    let report = stage.verify().await;
    assert!(report.is_sound() && report.lost == 2, "{report}");
}

#[tokio::test]
async fn an_audit_that_cannot_be_opened_yet_refuses_records_and_tells_of_them_once_it_is() {
    let stage = Stage::new();
    let losses = stage.path("audit.lost");
    // What an earlier process lost is told of too.
    two_are_lost(&stage, &losses).await;
    let has_room = Arc::new(AtomicBool::new(false));
    let (room, database, key) = (has_room.clone(), stage.path("audit.sqlite"), stage.path("audit.key"));
    let open: OpensStore = Box::new(move || {
        let (room, database, key) = (room.clone(), database.clone(), key.clone());
        Box::pin(async move {
            if !room.load(Ordering::SeqCst) {
                return Err(StoreError::Full("no room".to_owned()));
            }
            let store: Box<dyn Store> = Box::new(SqliteStore::open(&database, 1 << 30).await?);
            Ok((store, SigningKey::open(&key)?))
        })
    });
    let options = AuditOptions { losses: Some(losses.clone()), clock: Some(stage.path("audit.clock")), ..AuditOptions::default() };
    let away = gnomon_audit::FileSink::new(stage.path("away.jsonl"));
    let (audit, writer) = Audit::start_later(open, vec![Box::new(away)], options.clone());
    for lost in 1..=3 {
        assert_eq!(audit.record_durably(record("anna", "during")).await, Err(NotWritten));
        assert_eq!((audit.is_open(), audit.counts().lost), (false, lost));
    }
    has_room.store(true, Ordering::SeqCst);
    // Behind the record of the five that are lost.
    assert_eq!(audit.record_durably(record("anna", "after")).await, Ok(3));
    assert!(audit.is_open() && audit.counts().lost == 5, "{:?}", audit.counts());
    writer.shutdown().await;
    let report = stage.verify().await;
    assert!(report.is_sound() && report.lost == 5, "{report}");
}

#[tokio::test]
async fn what_an_audit_lost_that_was_never_opened_is_told_by_the_next_start() {
    let stage = Stage::new();
    let losses = stage.path("audit.lost");
    two_are_lost(&stage, &losses).await;
    let options = || AuditOptions { losses: Some(losses.clone()), ..AuditOptions::default() };
    let open: OpensStore = Box::new(|| Box::pin(std::future::ready(Err(StoreError::Full("no room".to_owned())))));
    let (audit, writer) = Audit::start_later(open, Vec::new(), options());
    assert_eq!(audit.record(record("anna", "during")), Recorded::Queued);
    writer.shutdown().await;
    let (audit, writer) = stage.open(options()).await;
    until(|| audit.counts().written == 1).await;
    writer.shutdown().await;
    let report = stage.verify().await;
    assert!(report.is_sound() && report.lost == 3, "{report}");
}

/// How a record is written.
#[derive(Clone, Copy, PartialEq)]
enum Writes {
    Soon,
    BeforeCall,
}

async fn a_disk_that_was_full(writes: Writes) {
    let stage = Stage::new();
    let at = stage.folder.path();
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(at).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        gnomon_testkit::skip("full-disk", "needs root, to mount a tmpfs that is full");
        return;
    }
    struct Unmount(std::path::PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let _unmount = Unmount(at.to_owned());

    let (audit, writer) = stage.open(AuditOptions::default()).await;
    audit.record_durably(record("anna", "before")).await.unwrap();
    let ballast = stage.path("ballast");
    assert!(std::fs::write(&ballast, vec![0; 4 << 20]).is_err(), "it is full");
    let mut large = record("anna", "during");
    large.arguments = Some("y".repeat(16 << 10).into());
    for lost in 1..=40 {
        match writes {
            Writes::Soon => assert_eq!(audit.record(large.clone()), Recorded::Queued),
            Writes::BeforeCall => assert_eq!(audit.record_durably(large.clone()).await, Err(NotWritten)),
        }
        if lost % 10 == 0 {
            until(|| audit.counts().lost == lost).await;
        }
    }
    assert_eq!(audit.counts().written, 1, "nothing counts as written that is not");

    std::fs::remove_file(&ballast).unwrap();
    match writes {
        Writes::Soon => assert_eq!(audit.record(record("anna", "after")), Recorded::Queued),
        Writes::BeforeCall => assert_eq!(audit.record_durably(record("anna", "after")).await, Ok(3), "behind the record of the loss"),
    }
    until(|| audit.counts().written == 3).await;
    assert_eq!(stage.entries().await.len(), 3, "others see it, so it is not in a transaction that nobody ends");
    writer.shutdown().await;
    let report = stage.verify().await;
    assert!(report.is_sound() && report.lost == 40, "{report}");
}

#[tokio::test]
async fn after_a_disk_was_full_records_that_nobody_waits_for_are_written_again() {
    a_disk_that_was_full(Writes::Soon).await;
}

#[tokio::test]
async fn after_a_disk_was_full_records_that_calls_wait_for_are_written_again() {
    a_disk_that_was_full(Writes::BeforeCall).await;
}

#[tokio::test]
async fn a_file_at_its_bound_takes_records_again_once_old_ones_are_gone() {
    let stage = Stage::new();
    let mut store = SqliteStore::open(&stage.path("audit.sqlite"), 1).await.unwrap();
    let mut head = store.head().await.unwrap();
    let body = "y".repeat(60 << 10);
    let mut next = async |store: &mut SqliteStore| {
        let then = head.then(&body);
        let written = store.append(&[StoredRecord { head: then, body: body.clone(), columns: gnomon_audit::Columns::default() }]).await;
        if written.is_ok() {
            head = then;
        }
        (head, written)
    };
    let full = loop {
        if let (head, Err(_)) = next(&mut store).await {
            break head;
        }
    };
    assert!(next(&mut store).await.1.is_err(), "it is still full");
    assert_eq!(store.head().await.unwrap(), full, "what was not committed is not there");
    store.trim(full).await.unwrap();
    next(&mut store).await.1.unwrap();
    assert_eq!(store.head().await.unwrap().seq, full.seq + 1);
}

#[tokio::test]
async fn two_writers_make_one_chain() {
    let stage = Stage::new();
    let ((one, first), (two, second)) = (stage.open(AuditOptions::default()).await, stage.open(AuditOptions::default()).await);
    for n in 0..20 {
        let audit = if n % 2 == 0 { &one } else { &two };
        assert_eq!(audit.record_durably(record("anna", "x")).await, Ok(n + 1));
    }
    first.shutdown().await;
    second.shutdown().await;
    let report = stage.verify().await;
    assert!(report.is_sound() && report.records == 20, "{report}");
}

#[tokio::test]
async fn a_bound_on_the_file_refuses_rather_than_forgets() {
    let stage = Stage::new();
    let store = SqliteStore::open(&stage.path("audit.sqlite"), 1).await.unwrap();
    let (audit, writer) =
        Audit::start(Box::new(store), stage.key(), Vec::new(), AuditOptions { retention: None, ..AuditOptions::default() }).await.unwrap();
    let mut big = record("anna", "x");
    big.arguments = Some("y".repeat(60 << 10).into());
    let mut written = 0;
    while audit.record_durably(big.clone()).await.is_ok() {
        written += 1;
        assert!(written < 1000, "64 pages are a megabyte");
    }
    writer.shutdown().await;
    // The record that says that one was lost may still have found room.
    assert!((written..=written + 1).contains(&stage.entries().await.len()));
}

#[tokio::test]
async fn another_programs_database_is_not_touched() {
    let stage = Stage::new();
    stage.play(1, 1).await;
    stage.attack("PRAGMA application_id = 7").await;
    assert!(matches!(SqliteStore::open(&stage.path("audit.sqlite"), 1 << 20).await, Err(StoreError::Foreign(_))));
    assert!(SqliteStore::read(&stage.path("none.sqlite")).await.is_err());
    assert!(!stage.path("none.sqlite").exists());
}

#[tokio::test]
async fn records_that_nobody_will_find_as_the_file_was_removed_count_as_lost() {
    let stage = Stage::new();
    let (audit, writer) = stage.open(AuditOptions::default()).await;
    audit.record_durably(record("anna", "x")).await.unwrap();
    for name in ["audit.sqlite", "audit.sqlite-wal", "audit.sqlite-shm"] {
        std::fs::remove_file(stage.path(name)).unwrap();
    }
    audit.record_durably(record("anna", "y")).await.unwrap_err();
    assert_eq!((audit.counts().written, audit.counts().lost), (1, 1));
    writer.shutdown().await;
    assert!(!stage.path("audit.sqlite").exists());
}

#[tokio::test]
async fn records_behind_a_log_or_a_file_that_somebody_took_away_count_as_lost_and_are_told_of() {
    for damage in ["the log is removed", "the log is truncated", "the file is truncated"] {
        let stage = Stage::new();
        stage.play(1, 5).await;
        let options = || AuditOptions { losses: Some(stage.path("audit.lost")), ..AuditOptions::default() };
        let (audit, writer) = stage.open(options()).await;
        audit.record_durably(record("anna", "before")).await.unwrap();
        let cut = |name| std::fs::File::options().write(true).open(stage.path(name)).unwrap().set_len(100).unwrap();
        match damage {
            "the log is removed" => std::fs::remove_file(stage.path("audit.sqlite-wal")).unwrap(),
            "the log is truncated" => cut("audit.sqlite-wal"),
            _ => cut("audit.sqlite"),
        }
        assert!(audit.record_durably(record("anna", "after")).await.is_err(), "{damage}");
        assert_eq!(audit.counts().lost, 1, "{damage}");
        writer.shutdown().await;
        if damage.contains("log") {
            let (_, writer) = stage.open(options()).await;
            writer.shutdown().await;
            let kinds: Vec<String> = stage.entries().await.into_iter().map(|entry| entry.columns.kind).collect();
            assert_eq!(kinds.last().map(String::as_str), Some("lost"), "{kinds:?}");
        }
    }
}
