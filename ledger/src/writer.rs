//! The one writer: takes the queued events, appends them to the file and the database, says how far it
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
use gnomon_clock::KeptClock;
use gnomon_kit::SteadyTime;
use gnomon_ledger_model::{Forgotten, Group, Store, StoreError};
use gnomon_observe::{Action, Class, Field, Observation};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};

/// The interval at which an idle ledger enforces retention. A busy one does so as it writes.
const IDLE_RETENTION_EVERY: Duration = Duration::from_secs(600);

/// After so long without an event, memory that only a busy time needed is given back: some 10 MiB of lines.
const COOLS_DOWN: Duration = Duration::from_secs(5);

/// The interval at which a lasting failure is logged, and what retention removed while events are written.
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
    /// Events that retention removed.
    pub(crate) forgotten: Forgotten,
    /// By how much the system's clock is ahead of the one by which events are too old.
    pub(crate) clock_behind: Duration,
}

/// The writer's state of its folder beside the ledger itself.
pub(crate) struct Folder {
    /// The time by which events are too old.
    pub(crate) clock: KeptClock,
    /// Keeps others from writing there.
    pub(crate) lock: WriterLock,
}

pub(crate) struct Task {
    queue: Arc<Queue>,
    store: Box<dyn Store>,
    jsonl: Jsonl,
    report: watch::Sender<Progress>,
    commit_every: Duration,
    complaint: Option<Instant>,
    /// The time by which events are too old.
    clock: KeptClock,
    /// The retention totals that were logged last, and the time of that log line.
    told: (Forgotten, Option<Instant>),
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
        Folder { clock, lock }: Folder,
    ) -> Self {
        let commit_every = commit_every.min(MAX_COMMIT_EVERY);
        let (told, lookout) = (<_>::default(), Lookout::default());
        Self { queue, store, jsonl, report, commit_every, complaint: None, clock, told, lookout, unusual, lock }
    }

    /// Runs until the queue is shut and empty.
    pub(crate) async fn run(mut self) {
        // However this thread ends, recorders must learn that nothing is written any more.
        let _shut = ShutOnExit(self.queue.clone());
        let mut forget = tokio::time::interval(IDLE_RETENTION_EVERY);
        let mut warm = false;
        loop {
            tokio::select! {
                biased;
                () = self.queue.arrived() => {}
                _ = forget.tick() => {
                    let now_ms = self.keep_by();
                    self.jsonl.prune();
                    let settled = self.settle_in_place().await;
                    if let Err(error) = match settled {
                        Ok(()) => self.store.forget(now_ms).await,
                        Err(error) => Err(error),
                    } {
                        self.complain("retention", 0, &error.to_string());
                    }
                    self.tell_forgotten();
                    self.report_retention();
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
            // Events that arrive during a write wait for the next: one commit after the other would cost more
            // than all events together.
            let Taken { groups, last } = self.queue.take();
            for group in groups {
                self.write(group).await;
            }
            if last {
                break;
            }
        }
        self.clock.keep();
        // What was acknowledged is durable, even if closing fails.
        let _ = self.store.close().await;
        drop(self.lock);
    }

    async fn write(&mut self, group: Group) {
        let now_ms = self.keep_by();
        let lines = self.jsonl.append(group.lines()).map_err(|e| e.to_string());
        let rows = self.append(&group, now_ms).await.map_err(|e| e.to_string());
        if self.told.1.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            self.tell_forgotten();
        }
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
            now.forgotten = self.store.forgotten();
            now.clock_behind = self.clock.behind();
        });
        // The events are acknowledged already; a failed look is only logged.
        let latest = group.deltas().volumes.latest_hour().filter(|_| acknowledged > 0);
        match self.lookout.look(&mut *self.store, latest, now_ms).await {
            Ok(unusual) => unusual.iter().for_each(|hour| {
                // A listener may be slow: one event a day and user; without a listener it is dropped.
                let _ = self.unusual.try_send(hour.describe());
            }),
            Err(error) => self.complain("volume", 0, &error.to_string()),
        }
        self.queue.give_back(group);
    }
}

impl Task {
    /// Appends a group, at the path where readers open the ledger.
    async fn append(&mut self, group: &Group, now_ms: i64) -> Result<FirstSeen, StoreError> {
        self.settle_in_place().await?;
        let first_seen = self.store.append(group, now_ms).await?;
        if self.store.is_in_place() {
            return Ok(first_seen);
        }
        // The group was lost with the file that was moved, removed or truncated meanwhile.
        self.settle_in_place().await?;
        self.store.append(group, now_ms).await
    }

    /// Recreates a ledger file that was moved, removed or truncated; not if its folder is missing or belongs to another.
    async fn settle_in_place(&mut self) -> Result<(), StoreError> {
        if self.store.is_in_place() {
            return Ok(());
        }
        if !self.lock.is_in_place() {
            let cause = "the state folder was moved or removed while gnomon ran: put it back, or restart gnomon";
            return Err(StoreError::refused(std::io::Error::other(cause)));
        }
        self.store.begin_anew().await?;
        let cause = "the ledger's file or its log (-wal) was moved, removed or truncated while gnomon ran; what that had is gone from here, and another was begun";
        tracing::error!("{cause}");
        let mut seen = Observation::new();
        seen.set(Field::Health, "ledger_begun_anew");
        seen.set(Field::Action, Action::Log.as_str());
        seen.set(Field::DetectionClass, Class::Health.as_str());
        seen.set(Field::Message, cause);
        let _ = self.unusual.try_send(seen);
        Ok(())
    }

    /// The time by which events are too old.
    fn keep_by(&mut self) -> i64 {
        let SteadyTime { now_ms, jumped_ms } = self.clock.read();
        if let Some(jumped) = jumped_ms {
            let seconds = jumped / 1000;
            tracing::warn!(seconds, "the clock jumped; nothing is removed as too old by it before it has stood for a day");
        }
        self.jsonl.keep_by(now_ms);
        now_ms
    }

    /// Logs what retention removed since the last time.
    fn tell_forgotten(&mut self) {
        let (now, (before, _)) = (self.store.forgotten(), self.told);
        if now != before {
            let (age, size) = (now.age - before.age, now.size - before.size);
            tracing::info!(age, size, "retention removed events that were too old (age), or to make room (size)");
            self.told = (now, Some(Instant::now()));
        }
    }

    fn report_retention(&self) {
        let retention = (self.store.forgotten(), self.clock.behind());
        self.report.send_if_modified(|now| {
            let before = (now.forgotten, now.clock_behind);
            (now.forgotten, now.clock_behind) = retention;
            before != retention
        });
    }

    /// Writes a failure to the log, but not every one of a failure that lasts.
    fn complain(&mut self, reason: &str, events: u64, error: &str) {
        if self.complaint.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            self.complaint = Some(Instant::now());
            tracing::error!(reason, events, error, "the ledger could not be written; trying on");
        }
    }
}

struct ShutOnExit(Arc<Queue>);

impl Drop for ShutOnExit {
    fn drop(&mut self) {
        self.0.shut();
    }
}
