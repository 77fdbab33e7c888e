//! The one writer: takes what is queued, appends it to the file and the database, says how far it
//! has come. It never gives up: what cannot be written is counted, and the next
//! batch is tried again.

use crate::{
    DropReason, FirstSeen,
    jsonl::Jsonl,
    lock::WriterLock,
    options::MAX_COMMIT_EVERY,
    queue::{Queue, Taken},
    unusual::Lookout,
};
use gnomon_kit::unix_millis;
use gnomon_ledger_model::{Group, Store};
use gnomon_observe::Observation;
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{mpsc, watch};

/// The interval at which an idle ledger enforces retention. A busy one does so as it writes.
const IDLE_RETENTION_EVERY: Duration = Duration::from_secs(600);

/// After so long without an event, memory that only a busy time needed is given back: some 10 MiB of lines.
const COOLS_DOWN: Duration = Duration::from_secs(5);

/// The interval at which a lasting failure is logged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// The progress of the writer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Events that are durable or lost for good.
    pub(crate) settled: u64,
    /// Events that are durable.
    pub(crate) acknowledged: u64,
    /// The additions to the inventory.
    pub(crate) first_seen: FirstSeen,
}

pub(crate) struct Task {
    queue: Arc<Queue>,
    store: Box<dyn Store>,
    jsonl: Jsonl,
    report: watch::Sender<Progress>,
    commit_every: Duration,
    complaint: Option<Instant>,
    lookout: Lookout,
    unusual: mpsc::Sender<Observation>,
    // Last, so that it is released after the database is closed.
    lock: WriterLock,
}

impl Task {
    pub(crate) fn new(
        queue: Arc<Queue>,
        store: Box<dyn Store>,
        jsonl: Jsonl,
        report: watch::Sender<Progress>,
        commit_every: Duration,
        unusual: mpsc::Sender<Observation>,
        lock: WriterLock,
    ) -> Self {
        let commit_every = commit_every.min(MAX_COMMIT_EVERY);
        Self { queue, store, jsonl, report, commit_every, complaint: None, lookout: Lookout::default(), unusual, lock }
    }

    /// Runs until the queue is shut and empty.
    pub(crate) async fn run(mut self) {
        // Whatever ends this thread, recorders must learn that nothing is written any more.
        let _shut = ShutOnExit(self.queue.clone());
        let mut forget = tokio::time::interval(IDLE_RETENTION_EVERY);
        let mut warm = false;
        loop {
            tokio::select! {
                biased;
                () = self.queue.arrived() => {}
                _ = forget.tick() => {
                    self.jsonl.prune();
                    if let Err(error) = self.store.forget(now_ms()).await {
                        self.complain("retention", 0, &error.to_string());
                    }
                    continue;
                }
                () = tokio::time::sleep(COOLS_DOWN), if warm => {
                    self.queue.cool_down();
                    warm = false;
                    continue;
                }
            }
            warm = true;
            tokio::select! {
                () = self.queue.hurried() => {}
                () = tokio::time::sleep(self.commit_every) => {}
            }
            // What comes while this is written waits its turn: one commit after the other would cost more
            // than all events together.
            let Taken { groups, last } = self.queue.take();
            for group in groups {
                self.write(group).await;
            }
            if last {
                break;
            }
        }
        // What was acknowledged is durable, whatever this says.
        let _ = self.store.close().await;
        drop(self.lock);
    }

    async fn write(&mut self, group: Group) {
        let lines = self.jsonl.append(group.lines()).map_err(|e| e.to_string());
        let rows = self.store.append(&group, now_ms()).await.map_err(|e| e.to_string());
        let count = group.rows().len() as u64;
        let (acknowledged, first_seen, failure) = match (lines, rows) {
            (Ok(()), Ok(first_seen)) => (count, first_seen, None),
            (_, Err(error)) => (0, FirstSeen::default(), Some((DropReason::DatabaseFailed, error))),
            (Err(error), Ok(first_seen)) => (0, first_seen, Some((DropReason::JsonlFailed, error))),
        };
        if let Some((reason, error)) = failure {
            self.queue.count_lost(reason, count);
            self.complain(reason.as_str(), count, &error);
        }
        self.report.send_modify(|now| {
            now.settled += count;
            now.acknowledged += acknowledged;
            now.first_seen += first_seen;
        });
        // What was written is acknowledged already; that nobody could look is worth a line and no more.
        let latest = group.deltas().volumes.latest_hour().filter(|_| acknowledged > 0);
        match self.lookout.look(&mut *self.store, latest).await {
            Ok(unusual) => unusual.iter().for_each(|hour| {
                // Whoever listens is slower than one a day and user; if nobody does, nobody wants to know.
                let _ = self.unusual.try_send(hour.describe());
            }),
            Err(error) => self.complain("volume", 0, &error.to_string()),
        }
        self.queue.give_back(group);
    }
}

impl Task {
    /// Writes a failure to the log, but not every one of a failure that lasts.
    fn complain(&mut self, reason: &str, events: u64, error: &str) {
        if self.complaint.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            self.complaint = Some(Instant::now());
            tracing::error!(reason, events, error, "the ledger could not be written; trying on");
        }
    }
}

/// Now, as the ledger counts time.
fn now_ms() -> i64 {
    unix_millis(SystemTime::now())
}

struct ShutOnExit(Arc<Queue>);

impl Drop for ShutOnExit {
    fn drop(&mut self) {
        self.0.shut();
    }
}
