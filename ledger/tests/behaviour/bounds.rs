//! Everything is bounded, and what does not fit is counted.

use super::*;
use gnomon_ledger::{DropReason, MIN_DATABASE_BYTES};
use std::{
    fs,
    num::NonZeroUsize,
    time::{Duration, SystemTime},
};

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_never_blocks() {
    let state = State::new();
    let mut options = state.options();
    options.queue = NonZeroUsize::new(8).unwrap();
    let (ledger, writer) = Ledger::open(options).await.unwrap();
    let (mut queued, mut dropped) = (0, 0);
    for number in 0..10_000 {
        match ledger.record(Event::now(call("mcp.example.com", number))) {
            Recorded::Queued => queued += 1,
            Recorded::Dropped(reason) => {
                assert_eq!(reason, DropReason::QueueFull);
                dropped += 1;
            }
        }
    }
    ledger.flush().await.unwrap();
    assert!(dropped > 0, "the recorder was never faster than two fsyncs");
    assert_eq!(ledger.dropped().of(DropReason::QueueFull), dropped);
    assert_eq!(ledger.acknowledged(), queued);
    writer.shutdown().await;
    assert_eq!(state.all().await.len() as u64, queued);
}

#[tokio::test]
async fn one_client_s_flood_costs_no_other_client_an_event() {
    let state = State::new();
    let mut options = state.options();
    options.queue = NonZeroUsize::new(64).unwrap();
    let (ledger, writer) = Ledger::open(options).await.unwrap();
    let from = |address: &'static str, port: u16| {
        let mut seen = call("mcp.example.com", i64::from(port));
        seen.set(Field::SourceAddress, address);
        seen.set(Field::SourcePort, i64::from(port));
        Event::now(seen)
    };
    // Nothing is taken before the first commit, so this all waits together.
    let flood = (0..10_000).filter(|_| ledger.record(from("192.0.2.1", 1)) == Recorded::Queued).count();
    assert!(flood >= 32, "{flood}");
    assert_eq!(ledger.record(from("192.0.2.1", 2)), Recorded::Queued, "another connection of the same address");
    let flood = (0..100).map(|port| (0..1_000).filter(|_| ledger.record(from("192.0.2.1", 10 + port)) == Recorded::Queued).count());
    assert!(flood.sum::<usize>() >= 8);
    for neighbour in ["192.0.2.2", "192.0.2.3", "192.0.2.4"] {
        assert_eq!(ledger.record(from(neighbour, 1)), Recorded::Queued, "{neighbour}");
    }
    writer.shutdown().await;
    let lines = fs::read_to_string(state.jsonl()).unwrap_or_default();
    for neighbour in ["192.0.2.2", "192.0.2.3", "192.0.2.4"] {
        let stored = state.all().await.iter().filter(|event| event.json.contains(neighbour)).count();
        assert_eq!((stored, lines.matches(neighbour).count().min(1)), (1, 1), "{neighbour}");
    }
}

#[tokio::test]
async fn a_full_disk_under_the_lines_is_counted_and_the_database_goes_on() {
    let state = State::new();
    let mut options = state.options();
    options.jsonl = JsonlTarget::File("/dev/full".into());
    let (ledger, writer) = Ledger::open(options).await.unwrap();
    for number in 0..10 {
        record(&ledger, call("mcp.example.com", number));
    }
    ledger.flush().await.unwrap();
    assert_eq!(ledger.dropped().of(DropReason::JsonlFailed), 10);
    assert_eq!(ledger.acknowledged(), 0);
    writer.shutdown().await;
    assert_eq!(state.all().await.len(), 10);
}

#[tokio::test]
async fn a_full_disk_under_the_database_is_counted_and_tried_again_once_there_is_room() {
    let mount = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(mount.path()).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        gnomon_testkit::skip("full-disk", "needs root, to mount a tmpfs that is full");
        return;
    }
    let _unmount = Unmount(mount.path());

    let ballast = mount.path().join("ballast");
    let (ledger, mut writer) = Ledger::open(options(mount.path())).await.unwrap();
    let mut found = writer.take_detections().unwrap();
    record(&ledger, call("mcp.example.com", 0));
    ledger.flush().await.unwrap();
    assert_eq!(ledger.acknowledged(), 1);
    let _ = fs::write(&ballast, vec![0; 4 << 20]);
    for number in 0..200 {
        record(&ledger, call("mcp.example.com", number));
    }
    ledger.flush().await.unwrap();
    assert_eq!(ledger.dropped().total(), 200, "{:?}", ledger.dropped());

    fs::remove_file(&ballast).unwrap();
    record(&ledger, call("mcp.example.com", 1));
    ledger.flush().await.unwrap();
    assert_eq!(ledger.acknowledged(), 2);
    // What is acknowledged is there for others to see, not only in a transaction that nobody ends.
    let all = EventFilter { limit: 10_000, ..EventFilter::default() };
    let seen = Reader::open(&database(mount.path())).await.unwrap().events(&all, Order::OldestFirst).await.unwrap();
    assert_eq!(seen.len(), 2);
    let told = found.recv().await.unwrap();
    assert_eq!(told.text(Field::Health), Some("events_lost"));
    let text = told.text(Field::Message).unwrap().to_owned();
    assert!(text.starts_with("200 events from 2") && text.ends_with("(database_failed 200)"), "{text}");
    record(&ledger, told);
    writer.shutdown().await;
    assert!(found.recv().await.is_none(), "it is told once");
    let lines = fs::read_to_string(lines(mount.path())).unwrap();
    assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "a line is torn");
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test]
async fn a_ledger_on_a_full_disk_is_opened_once_there_is_room_and_what_comes_before_counts_as_lost() {
    let mount = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(mount.path()).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        gnomon_testkit::skip("full-disk", "needs root, to mount a tmpfs that is full");
        return;
    }
    let _unmount = Unmount(mount.path());
    let (ledger, writer) = Ledger::open(options(mount.path())).await.unwrap();
    record(&ledger, call("mcp.example.com", 0));
    writer.shutdown().await;
    let ballast = mount.path().join("ballast");
    assert!(fs::write(&ballast, vec![0; 8 << 20]).is_err(), "it is full");

    let (ledger, writer) = Ledger::open(options(mount.path())).await.unwrap();
    for number in 0..20 {
        record(&ledger, call("mcp.example.com", number));
    }
    ledger.flush().await.unwrap();
    assert_eq!((ledger.acknowledged(), ledger.dropped().total()), (0, 20));
    // It ends while the disk is full, and so does the next, and the one after them says what all of them lost.
    writer.shutdown().await;
    let (ledger, mut writer) = Ledger::open(options(mount.path())).await.unwrap();
    let mut found = writer.take_detections().unwrap();
    for number in 0..20 {
        record(&ledger, call("mcp.example.com", number));
    }
    ledger.flush().await.unwrap();
    fs::remove_file(&ballast).unwrap();
    record(&ledger, call("mcp.example.com", 1));
    ledger.flush().await.unwrap();
    assert_eq!((ledger.acknowledged(), ledger.dropped().total()), (1, 20));
    let mut told = Vec::new();
    while let Ok(Some(seen)) = tokio::time::timeout(Duration::from_millis(500), found.recv()).await {
        told.push(seen.text(Field::Message).unwrap_or_default().to_owned());
    }
    assert!(told.last().is_some_and(|text| text.starts_with("40 events from 2")), "{told:?}");
    writer.shutdown().await;
    let (ledger, mut writer) = Ledger::open(options(mount.path())).await.unwrap();
    let mut found = writer.take_detections().unwrap();
    let last = tokio::time::timeout(Duration::from_millis(500), found.recv()).await;
    assert!(last.is_ok_and(|last| last.is_some()), "nothing was written after it was told");
    record(&ledger, call("mcp.example.com", 2));
    writer.shutdown().await;
    assert!(found.recv().await.is_none());
    let (_, mut writer) = Ledger::open(options(mount.path())).await.unwrap();
    let mut found = writer.take_detections().unwrap();
    writer.shutdown().await;
    assert!(found.recv().await.is_none(), "it is told once");
    let all = EventFilter { limit: 10_000, ..EventFilter::default() };
    let seen = Reader::open(&database(mount.path())).await.unwrap().events(&all, Order::OldestFirst).await.unwrap();
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn the_oldest_events_make_room_within_the_size_bound() {
    let state = State::new();
    let mut options = state.options();
    options.max_bytes = 0;
    let (ledger, writer) = Ledger::open(options).await.unwrap();
    let mut number = 0;
    for _ in 0..24 {
        for _ in 0..1_000 {
            let mut seen = call("mcp.example.com", number);
            seen.set(Field::CommandLine, "x".repeat(1_000));
            seen.set(Field::IncidentId, format!("incident {}", number / 10));
            seen.set(Field::RuleId, "rule");
            record(&ledger, seen);
            number += 1;
        }
        ledger.flush().await.unwrap();
        let (file, log) =
            (fs::metadata(state.path()).unwrap().len(), fs::metadata(state.path().with_extension("sqlite-wal")).unwrap().len());
        assert!(file <= MIN_DATABASE_BYTES, "{file} bytes");
        assert!(log <= 64 << 20, "{log} bytes of log");
    }
    assert_eq!(ledger.dropped().total(), 0);
    writer.shutdown().await;
    let stored = state.all().await;
    assert!(stored.len() > 2_000, "{} are left", stored.len());
    // What is left is the newest, without a gap.
    let first = stored[0].seq;
    assert!(first > 1);
    assert_eq!(stored.last().unwrap().seq, number);
    assert_eq!(number - first + 1, stored.len() as i64);
    // Incidents go with their events.
    let incidents = state.reader().await.incidents(10_000).await.unwrap();
    assert!(incidents.iter().all(|incident| incident.last_seq >= first));
}

#[tokio::test]
async fn events_are_forgotten_when_their_time_is_over() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    let long_ago = SystemTime::now() - Duration::from_secs(31 * 24 * 60 * 60);
    for number in 0..100 {
        assert_eq!(ledger.record(Event::at(call("mcp.example.com", number), long_ago)), Recorded::Queued);
    }
    record(&ledger, call("mcp.example.com", 100));
    writer.shutdown().await;
    let (ledger, writer) = state.open().await;
    record(&ledger, call("mcp.example.com", 101));
    ledger.flush().await.unwrap();
    writer.shutdown().await;
    let stored = state.all().await;
    assert_eq!(stored.iter().map(|e| e.seq).collect::<Vec<_>>(), [101, 102]);
}

#[tokio::test]
async fn an_idle_ledger_forgets_too() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    let long_ago = SystemTime::now() - Duration::from_secs(31 * 24 * 60 * 60);
    for number in 0..10_000 {
        let _ = ledger.record(Event::at(call("mcp.example.com", number), long_ago));
        if number % 2_000 == 0 {
            ledger.flush().await.unwrap();
        }
    }
    // One that says what time it is: a clock that is far ahead of all events is not believed at once.
    record(&ledger, call("mcp.example.com", 10_000));
    writer.shutdown().await;
    let kept = state.all().await.len();
    assert!(kept > 4_096, "{kept} are left to forget");
    // Opening is enough; nothing is recorded.
    let (ledger, writer) = state.open().await;
    while state.all().await.len() > 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    writer.shutdown().await;
    let forgotten = ledger.counts().forgotten;
    assert_eq!((forgotten.age, forgotten.size), (kept as u64 - 1, 0));
}

#[tokio::test]
async fn a_clock_that_jumped_forgets_no_event_because_of_a_restart() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    let jump = Duration::from_secs(31 * 24 * 60 * 60);
    for number in 0..10 {
        assert_eq!(ledger.record(Event::at(call("mcp.example.com", number), SystemTime::now() - jump)), Recorded::Queued);
    }
    // What the process wrote whose clock had jumped.
    record(&ledger, call("mcp.example.com", 10));
    writer.shutdown().await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let known = format!("{} {} 1000", (now - jump).as_millis(), now.as_millis());
    fs::write(state.dir.path().join("ledger.clock"), format!("{known:512}")).unwrap();
    for number in 11..14 {
        let (ledger, writer) = state.open().await;
        record(&ledger, call("mcp.example.com", number));
        ledger.flush().await.unwrap();
        writer.shutdown().await;
        assert_eq!(ledger.counts().forgotten.age, 0);
    }
    assert_eq!(state.all().await.len(), 14);
}

#[tokio::test]
async fn a_ledger_of_which_no_time_is_known_forgets_nothing_at_its_start() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    let long_ago = SystemTime::now() - Duration::from_secs(31 * 24 * 60 * 60);
    assert_eq!(ledger.record(Event::at(call("mcp.example.com", 0), long_ago)), Recorded::Queued);
    record(&ledger, call("mcp.example.com", 1));
    writer.shutdown().await;
    fs::remove_file(state.dir.path().join("ledger.clock")).unwrap();
    let (ledger, writer) = state.open().await;
    record(&ledger, call("mcp.example.com", 2));
    ledger.flush().await.unwrap();
    writer.shutdown().await;
    assert_eq!((state.all().await.len(), ledger.counts().forgotten.age), (3, 0));
}

#[tokio::test]
async fn a_ledger_whose_file_is_removed_is_begun_anew_and_loses_no_event_that_comes() {
    let state = State::new();
    let (ledger, mut writer) = state.open().await;
    let mut found = writer.take_detections().unwrap();
    record(&ledger, call("mcp.example.com", 0));
    ledger.flush().await.unwrap();
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        fs::remove_file(state.dir.path().join(name)).unwrap();
    }
    record(&ledger, call("mcp.example.com", 1));
    ledger.flush().await.unwrap();
    assert_eq!((ledger.acknowledged(), ledger.dropped().total(), state.all().await.len()), (2, 0, 1));
    assert_eq!(found.recv().await.unwrap().text(Field::Health), Some("ledger_begun_anew"));
    record(&ledger, call("mcp.example.com", 2));
    writer.shutdown().await;
    assert_eq!(state.all().await.len(), 2);
}

#[tokio::test]
async fn a_ledger_whose_log_is_removed_is_told_of_and_keeps_what_comes() {
    let state = State::new();
    let (ledger, mut writer) = state.open().await;
    let mut found = writer.take_detections().unwrap();
    for number in 0..3 {
        record(&ledger, call("mcp.example.com", number));
    }
    ledger.flush().await.unwrap();
    fs::remove_file(state.dir.path().join("ledger.sqlite-wal")).unwrap();
    record(&ledger, call("mcp.example.com", 3));
    ledger.flush().await.unwrap();
    assert_eq!(found.recv().await.unwrap().text(Field::Health), Some("ledger_begun_anew"));
    assert_eq!((ledger.acknowledged(), ledger.dropped().total()), (4, 0));
    // For others, who open it by its name, as after a crash.
    let seen = state.all().await;
    assert!(seen.last().is_some_and(|event| event.json.contains("\"3\"")), "{seen:?}");
    writer.shutdown().await;
}

#[tokio::test]
async fn a_ledger_whose_file_or_log_is_truncated_in_place_is_told_of_and_keeps_what_comes() {
    for (name, length) in
        [("ledger.sqlite", 0), ("ledger.sqlite", 100), ("ledger.sqlite", 20_000), ("ledger.sqlite-wal", 0), ("ledger.sqlite-wal", 9_000)]
    {
        let state = State::new();
        let at = state.dir.path().join(name);
        // With pages in the file, and in the log.
        let (ledger, writer) = state.open().await;
        record(&ledger, call("mcp.example.com", 0));
        writer.shutdown().await;
        assert_eq!(ledger.acknowledged(), 1);
        let (ledger, mut writer) = state.open().await;
        let mut found = writer.take_detections().unwrap();
        record(&ledger, call("mcp.example.com", 1));
        ledger.flush().await.unwrap();
        fs::File::options().write(true).open(&at).unwrap().set_len(length).unwrap();
        for number in 2..5 {
            record(&ledger, call("mcp.example.com", number));
            ledger.flush().await.unwrap();
        }
        let told = found.recv().await.unwrap();
        assert_eq!(told.text(Field::Health), Some("ledger_begun_anew"), "{name} {length}");
        assert!(told.text(Field::Message).is_some_and(|text| text.contains("truncated")), "{told:?}");
        assert_eq!((ledger.acknowledged(), ledger.dropped().total()), (4, 0), "{name} {length}");
        let seen: Vec<_> = state.all().await.iter().map(|event| parse(event)["jsonrpc.request.id"].clone()).collect();
        assert!(seen.ends_with(&["2".into(), "3".into(), "4".into()]), "{name} {length}: {seen:?}");
        assert_eq!(seen.contains(&"0".into()), name.ends_with("-wal"), "what the file had is in it: {seen:?}");
        writer.shutdown().await;
        assert!(found.recv().await.is_none(), "it is told once");
        assert_eq!(state.dir.path().join("ledger.sqlite-damaged").exists(), !name.ends_with("-wal"));
        let (_, writer) = state.open().await;
        writer.shutdown().await;
    }
}

#[tokio::test]
async fn a_ledger_that_gives_pages_back_is_not_taken_for_a_truncated_one() {
    let state = State::new();
    let large = LedgerOptions { max_bytes: 64 << 20, ..state.options() };
    let (ledger, writer) = Ledger::open(large).await.unwrap();
    let mut number = 0;
    for _ in 0..16 {
        for _ in 0..1_000 {
            let mut seen = call("mcp.example.com", number);
            seen.set(Field::CommandLine, "x".repeat(1_000));
            record(&ledger, seen);
            number += 1;
        }
        ledger.flush().await.unwrap();
    }
    writer.shutdown().await;
    let length = || fs::metadata(state.path()).unwrap().len();
    let before = length();
    assert!(before > 2 * MIN_DATABASE_BYTES, "{before}");
    // Its bound was lowered.
    let (ledger, mut writer) = Ledger::open(LedgerOptions { max_bytes: 0, ..state.options() }).await.unwrap();
    let mut found = writer.take_detections().unwrap();
    for _ in 0..40 {
        for _ in 0..500 {
            let mut seen = call("mcp.example.com", number);
            seen.set(Field::CommandLine, "x".repeat(1_000));
            record(&ledger, seen);
            number += 1;
        }
        ledger.flush().await.unwrap();
    }
    assert_eq!(ledger.dropped().total(), 0);
    writer.shutdown().await;
    assert!(length() <= MIN_DATABASE_BYTES, "{before} {}", length());
    assert!(found.recv().await.is_none() && !state.dir.path().join("ledger.sqlite-damaged").exists());
}

#[tokio::test]
async fn events_that_nobody_will_find_as_the_state_folder_was_moved_count_as_lost() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    record(&ledger, call("mcp.example.com", 0));
    ledger.flush().await.unwrap();
    let elsewhere = state.dir.path().with_extension("elsewhere");
    fs::rename(state.dir.path(), &elsewhere).unwrap();
    // Another's folder is not written to either, as its lock is not ours.
    fs::create_dir(state.dir.path()).unwrap();
    record(&ledger, call("mcp.example.com", 1));
    ledger.flush().await.unwrap();
    assert_eq!((ledger.acknowledged(), ledger.dropped().of(DropReason::DatabaseFailed)), (1, 1));
    assert!(!state.path().exists());
    // Put back, it goes on.
    fs::remove_dir_all(state.dir.path()).unwrap();
    fs::rename(&elsewhere, state.dir.path()).unwrap();
    record(&ledger, call("mcp.example.com", 2));
    ledger.flush().await.unwrap();
    assert_eq!(ledger.acknowledged(), 2);
    writer.shutdown().await;
    assert_eq!(state.all().await.len(), 2);
}

#[tokio::test]
async fn a_slow_reader_does_not_hold_the_writer_up() {
    let state = State::new();
    let (ledger, writer) = state.open().await;
    record(&ledger, call("mcp.example.com", 0));
    ledger.flush().await.unwrap();
    let mut reader = state.reader().await;
    let _page = reader.events(&EventFilter::default(), Order::OldestFirst).await.unwrap();
    for number in 0..5_000 {
        record(&ledger, call("mcp.example.com", number));
    }
    ledger.flush().await.unwrap();
    assert_eq!(ledger.acknowledged(), 5_001);
    writer.shutdown().await;
}
