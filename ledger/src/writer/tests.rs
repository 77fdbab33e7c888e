use super::*;
use crate::{Event, JsonlTarget, Order, Reader, jsonl::Jsonl};
use gnomon_clock::Kept;
use gnomon_ledger_model::{
    Keep, Stored,
    volume::{Pair, Volume},
};
use gnomon_ledger_sqlite::SqliteStore;
use std::{
    fs,
    num::NonZeroUsize,
    ops::Range,
    path::{Path, PathBuf},
};

/// A store whose folder is moved away in the moment after a group was written.
struct Moving {
    inner: SqliteStore,
    /// From where, and whereto; once.
    next: Option<(PathBuf, PathBuf)>,
}

impl Store for Moving {
    fn append<'a>(&'a mut self, group: &'a Group, now_ms: i64) -> Stored<'a, FirstSeen> {
        Box::pin(async move {
            let first_seen = self.inner.append(group, now_ms).await?;
            if let Some((from, to)) = self.next.take() {
                fs::rename(from, to).unwrap();
            }
            Ok(first_seen)
        })
    }
    fn forget(&mut self, now_ms: i64) -> Stored<'_, ()> {
        self.inner.forget(now_ms)
    }
    fn forgotten(&self) -> Forgotten {
        self.inner.forgotten()
    }
    fn newest_ms(&mut self) -> Stored<'_, Option<i64>> {
        self.inner.newest_ms()
    }
    fn is_in_place(&self) -> bool {
        self.inner.is_in_place()
    }
    fn begin_anew(&mut self) -> Stored<'_, ()> {
        self.inner.begin_anew()
    }
    fn oldest_hour(&mut self, from: i64) -> Stored<'_, Option<i64>> {
        self.inner.oldest_hour(from)
    }
    fn busiest(&mut self, hour: i64, told_after: i64, limit: usize) -> Stored<'_, Vec<(Pair, Volume)>> {
        self.inner.busiest(hour, told_after, limit)
    }
    fn hours<'a>(&'a mut self, pair: Option<&'a Pair>, hours: Range<i64>) -> Stored<'a, Vec<(i64, Volume)>> {
        self.inner.hours(pair, hours)
    }
    fn tell<'a>(&'a mut self, pair: &'a Pair, hour: i64) -> Stored<'a, ()> {
        self.inner.tell(pair, hour)
    }
    fn forget_hours(&mut self, before: i64) -> Stored<'_, ()> {
        self.inner.forget_hours(before)
    }
    fn close(self: Box<Self>) -> Stored<'static, ()> {
        Box::new(self.inner).close()
    }
}

/// A writer in `dir`, which is moved to `elsewhere` as the first group is written.
async fn moved_away(dir: &Path, elsewhere: &Path) -> (Task, Arc<Queue>, watch::Receiver<Progress>) {
    fs::create_dir(dir).unwrap();
    let keep = Keep { max_bytes: 1 << 30, retention: Duration::from_secs(86_400) };
    let inner = SqliteStore::open(&dir.join("ledger.sqlite"), keep).await.unwrap();
    let store = Box::new(Moving { inner, next: Some((dir.to_owned(), elsewhere.to_owned())) });
    let queue = Arc::new(Queue::new(NonZeroUsize::new(64).unwrap()));
    let lines = Lines::start(Jsonl::None, &JsonlTarget::None, queue.clone()).unwrap();
    let (report, progress) = watch::channel(Progress::default());
    let (unusual, _) = mpsc::channel(4);
    let clock = KeptClock::forgetful(Kept::Nothing);
    let folder = Folder { clock, losses: Losses::open(&dir.join("ledger.lost")), lock: WriterLock::acquire(dir).unwrap() };
    (Task::new(queue.clone(), store, lines, report, Duration::ZERO, unusual, folder), queue, progress)
}

async fn write(task: &mut Task, queue: &Queue, events: usize) {
    for _ in 0..events {
        let _ = queue.push(Event::now(Observation::new()));
    }
    for group in queue.take().groups {
        task.write(group).await;
    }
}

#[tokio::test]
async fn events_written_as_the_state_folder_was_moved_count_as_lost_only_where_they_do_not_come_back_with_it() {
    for is_whole in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let (dir, elsewhere) = (root.path().join("state"), root.path().join("elsewhere"));
        let (mut task, queue, progress) = moved_away(&dir, &elsewhere).await;
        let counts = || (progress.borrow().acknowledged, queue.dropped().total());
        write(&mut task, &queue, 3).await;
        assert_eq!(counts(), (0, 0), "nobody knows yet");
        write(&mut task, &queue, 2).await;
        assert_eq!(counts(), (0, 2), "those were not written");
        fs::rename(&elsewhere, &dir).unwrap();
        if !is_whole {
            for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
                let _ = fs::remove_file(dir.join(name));
            }
        }
        write(&mut task, &queue, 1).await;
        assert_eq!(counts(), if is_whole { (4, 2) } else { (1, 5) });
        let mut reader = Reader::open(&dir.join("ledger.sqlite")).await.unwrap();
        let there = reader.events(&<_>::default(), Order::OldestFirst).await.unwrap();
        assert_eq!(there.len() as u64, counts().0);
    }
}
