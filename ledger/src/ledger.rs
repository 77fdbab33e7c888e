//! The two ends of the ledger: a handle that everyone clones, and the writer that the command owns.

use crate::{
    DropCounts, Event, LedgerCounts, LedgerError, LedgerOptions, Recorded,
    jsonl::Jsonl,
    lines::Lines,
    lock::WriterLock,
    losses::Losses,
    options::JsonlTarget,
    queue::Queue,
    waiting::WaitingStore,
    writer::{self, Folder, Progress},
};
use gnomon_clock::{Kept, KeptClock};
use gnomon_ledger_model::{Keep, OpenError, Store};
use gnomon_ledger_sqlite::{MIN_DATABASE_BYTES, SqliteStore};
use gnomon_observe::Observation;
use std::{path::Path, sync::Arc, thread};
use thiserror::Error;
use tokio::sync::{mpsc, watch};

/// The most detections of the ledger's own that may wait to be recorded.
const UNUSUAL_WAITING: usize = 64;

/// The writer has stopped, so nothing more can become durable.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("the ledger's writer has stopped")]
pub struct Closed;

/// A handle for recording; clones are cheap and share one queue.
#[derive(Clone)]
pub struct Ledger {
    queue: Arc<Queue>,
    progress: watch::Receiver<Progress>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("queued", &self.queued()).field("dropped", &self.dropped()).finish()
    }
}

impl Ledger {
    /// Opens the ledger for writing and starts its writer on a thread of its own. Files that are
    /// missing are created with mode 0640; their folder must exist. Where the disk is full, events are lost and counted until the database can be
    /// opened.
    ///
    /// # Errors
    /// When another gnomon writes here, a file cannot be written, or the database is of a newer
    /// gnomon, of another program or damaged.
    pub async fn open(options: LedgerOptions) -> Result<(Ledger, Writer), LedgerError> {
        let dir = match options.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let lock = WriterLock::acquire(dir)?;
        let keep = options.keep();
        let mut store: Box<dyn Store> = match SqliteStore::open(&options.path, keep).await {
            Ok(store) => Box::new(store),
            // Traffic does not wait for room either.
            Err(error @ OpenError::Full { .. }) => {
                tracing::error!("{error}; until there is room, events are lost, and counted");
                Box::new(WaitingStore::new(options.path.clone(), keep))
            }
            Err(error) => return Err(error.into()),
        };
        let jsonl = Jsonl::open(&options.jsonl, Keep { max_bytes: keep.max_bytes.max(MIN_DATABASE_BYTES), ..keep }).map_err(|source| {
            let path = match &options.jsonl {
                JsonlTarget::File(path) => path.clone(),
                JsonlTarget::None | JsonlTarget::Stdout => options.path.clone(),
            };
            LedgerError::NotWritable { path, source }
        })?;
        let queue = Arc::new(Queue::new(options.queue));
        let lines = Lines::start(jsonl, &options.jsonl, queue.clone()).map_err(|source| LedgerError::Thread { source })?;
        let (tell, unusual) = mpsc::channel(UNUSUAL_WAITING);
        let kept = match store.newest_ms().await {
            Ok(Some(newest)) => Kept::Until(newest),
            Ok(None) => Kept::Nothing,
            // One that cannot be asked is not known to be empty.
            Err(_) => Kept::Something,
        };
        let clock = KeptClock::open(&dir.join("ledger.clock"), kept);
        let losses = Losses::open(&dir.join("ledger.lost"));
        let (report, progress) = watch::channel(Progress { clock_ahead_ms: clock.ahead_ms(), ..Progress::default() });
        let task = writer::Task::new(queue.clone(), store, lines, report, options.commit_every, tell, Folder { clock, losses, lock });
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|source| LedgerError::Thread { source })?;
        thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || runtime.block_on(task.run()))
            .map_err(|source| LedgerError::Thread { source })?;
        Ok((Ledger { queue: queue.clone(), progress: progress.clone() }, Writer { queue, progress, unusual: Some(unusual) }))
    }

    /// Writes the event's line and leaves it to the writer. Never waits for the disk; a lost event is
    /// counted.
    pub fn record(&self, event: Event) -> Recorded {
        self.queue.push(event)
    }

    /// The number of events lost since opening, by reason.
    #[must_use]
    pub fn dropped(&self) -> DropCounts {
        self.queue.dropped()
    }

    /// The number of events that wait for the writer now.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The number of events acknowledged since opening: they are in the database's write-ahead log and in the file of JSON lines, fsynced.
    /// Standard output, and a file that hangs, are not waited for. After [`flush`](Self::flush), recorded = acknowledged + dropped; lines that
    /// nobody waited for and that are missing count as dropped in addition, and events that were written into a state folder as it was moved away
    /// count as neither before it is back.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.progress.borrow().acknowledged
    }

    /// All counters.
    #[must_use]
    pub fn counts(&self) -> LedgerCounts {
        let Progress { acknowledged, first_seen, forgotten, clock_ahead_ms, .. } = *self.progress.borrow();
        LedgerCounts {
            acknowledged,
            dropped: self.dropped(),
            first_seen,
            forgotten,
            queued: self.queued(),
            capacity: self.queue.capacity(),
            clock_ahead_s: clock_ahead_ms / 1000,
        }
    }

    /// Waits until every event recorded before is acknowledged or counted as lost.
    ///
    /// # Errors
    /// When the writer stopped before.
    pub async fn flush(&self) -> Result<(), Closed> {
        let target = self.queue.accepted();
        self.queue.hurry();
        let mut progress = self.progress.clone();
        progress.wait_for(|now| now.settled >= target).await.map(|_| ()).map_err(|_| Closed)
    }
}

/// The writer's owner. Dropping it tells the writer to finish what is queued and stop;
/// [`shutdown`](Self::shutdown) also waits for that.
#[must_use = "the ledger stops when its writer is dropped"]
pub struct Writer {
    queue: Arc<Queue>,
    progress: watch::Receiver<Progress>,
    unusual: Option<mpsc::Receiver<Observation>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// Observations of the ledger itself: [`gnomon_observe::UNUSUAL_VOLUME`] in its sums, and as class `health` that it was begun anew, and what was lost.
    /// They become events once recorded. Can be taken once.
    pub fn take_detections(&mut self) -> Option<mpsc::Receiver<Observation>> {
        self.unusual.take()
    }

    /// Lets nothing more in, writes and fsyncs what is queued, folds the write-ahead log into the
    /// database, closes it and releases the lock.
    pub async fn shutdown(mut self) {
        self.queue.shut();
        // The channel closes when the writer's thread is done.
        while self.progress.changed().await.is_ok() {}
    }

    /// Waits until the writer ends. It ends of itself only by a defect, which the command should
    /// report; otherwise this never returns.
    pub async fn ended(&mut self) {
        while self.progress.changed().await.is_ok() {}
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.shut();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_observe::Observation;

    #[tokio::test]
    async fn events_that_come_together_are_committed_together() {
        let dir = tempfile::tempdir().unwrap();
        let (ledger, writer) = Ledger::open(LedgerOptions::new(dir.path().join("ledger.sqlite"))).await.unwrap();
        for _ in 0..1_000 {
            let _ = ledger.record(Event::now(Observation::new()));
        }
        let mut progress = ledger.progress.clone();
        let mut commits = 0;
        while ledger.acknowledged() < 1_000 {
            progress.changed().await.unwrap();
            commits += 1;
        }
        // One, unless this thread was kept waiting in the middle of recording.
        assert!(commits <= 3, "{commits} commits");
        writer.shutdown().await;
    }
}
