//! The one writer: takes the queued events, appends them to the database, leaves their lines to whoever writes those, says how far it
//! has come. It never gives up: what cannot be written is counted, and the next
//! batch is tried again.

use crate::{
    DropReason, FirstSeen,
    lines::Lines,
    lock::WriterLock,
    losses::Losses,
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
    /// By how many milliseconds the system's clock is ahead of the one by which events are too old.
    pub(crate) clock_ahead_ms: i64,
}

/// The writer's state of its folder beside the ledger itself.
pub(crate) struct Folder {
    /// The time by which events are too old.
    pub(crate) clock: KeptClock,
    /// What was lost and not told.
    pub(crate) losses: Losses,
    /// Keeps others from writing there.
    pub(crate) lock: WriterLock,
}

/// Where a group is by now.
enum Appended {
    /// Where readers look for it.
    Here(FirstSeen),
    /// In a state folder that was moved away in this moment.
    Apart(FirstSeen),
}

/// The ledger's file, once it is in its place.
enum Settled {
    /// With all that was written.
    AsItWas,
    /// A new one.
    BegunAnew,
}

pub(crate) struct Task {
    queue: Arc<Queue>,
    store: Box<dyn Store>,
    lines: Lines,
    report: watch::Sender<Progress>,
    commit_every: Duration,
    complaint: Option<Instant>,
    /// The events that were lost since it could be written last; none while it can.
    failing: Option<u64>,
    /// The events that are in the ledger in a folder that was moved away meanwhile: whether they are lost shows once it is there again.
    apart: Option<(u64, FirstSeen)>,
    losses: Losses,
    /// When losses were told last.
    losses_told: Option<Instant>,
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
        lines: Lines,
        report: watch::Sender<Progress>,
        commit_every: Duration,
        unusual: mpsc::Sender<Observation>,
        Folder { clock, losses, lock }: Folder,
    ) -> Self {
        let commit_every = commit_every.min(MAX_COMMIT_EVERY);
        let (told, lookout) = (<_>::default(), Lookout::default());
        let (complaint, failing, apart, losses_told) = (None, None, None, None);
        Self {
            queue,
            store,
            lines,
            report,
            commit_every,
            complaint,
            failing,
            apart,
            losses,
            losses_told,
            clock,
            told,
            lookout,
            unusual,
            lock,
        }
    }

    /// Runs until the queue is shut and empty.
    pub(crate) async fn run(mut self) {
        // However this thread ends, recorders must learn that nothing is written any more.
        let _shut = ShutOnExit(self.queue.clone());
        // Of the process before: there may be no event for long that could be written before.
        self.tell_lost();
        let mut forget = tokio::time::interval(IDLE_RETENTION_EVERY);
        let mut warm = false;
        loop {
            tokio::select! {
                biased;
                () = self.queue.arrived() => {}
                _ = forget.tick() => {
                    let now_ms = self.keep_by();
                    self.lines.prune(now_ms);
                    let settled = self.settle_in_place().await;
                    if let Err(error) = match settled {
                        Ok(_) => self.store.forget(now_ms).await,
                        Err(error) => Err(error),
                    } {
                        self.complain("retention", 0, &error.to_string());
                    }
                    self.losses.count(self.queue.dropped(), now_ms);
                    self.tell_lost();
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
        let now_ms = self.keep_by();
        if self.store.is_in_place() {
            self.find_again();
        } else if let Some((events, _)) = self.apart {
            tracing::error!(events, "the ledger ends; so many events are in the state folder that was moved away, and nowhere else");
        }
        self.losses.count(self.queue.dropped(), now_ms);
        self.lines.finish().await;
        let lost = self.queue.dropped();
        // Events whose line is missing are here all the same.
        let lost: Vec<_> = lost.iter().filter(|(why, events)| *why != DropReason::JsonlFailed && *events > 0).collect();
        if !lost.is_empty() {
            let reasons: Vec<_> = lost.iter().map(|(why, events)| format!("{} {events}", why.as_str())).collect();
            let (lost, reasons) = (lost.iter().map(|(_, events)| events).sum::<u64>(), reasons.join(", "));
            tracing::error!(lost, reasons, "the ledger ends; so many events since the start were not written, and are lost");
        }
        // What was acknowledged is durable, even if closing fails.
        let _ = self.store.close().await;
        drop(self.lock);
    }

    async fn write(&mut self, group: Group) {
        let now_ms = self.keep_by();
        let count = group.rows().len() as u64;
        // Both at the same time; the database waits for no lines.
        let lines = self.lines.offer(group.lines(), count, now_ms);
        let rows = self.append(&group, now_ms).await;
        let lines = lines.written().await;
        if self.told.1.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            self.tell_forgotten();
        }
        let (acknowledged, first_seen) = match rows {
            Ok(Appended::Apart(first_seen)) => {
                self.apart = Some((count, first_seen));
                tracing::warn!(
                    events = count,
                    "the state folder was moved away as events were written into it: whether they are lost shows once it is back"
                );
                if let Err(error) = lines {
                    self.lines.lost(count, &error);
                }
                (0, FirstSeen::default())
            }
            Ok(Appended::Here(first_seen)) => {
                self.losses.is_told();
                if let Some(lost) = self.failing.take() {
                    (self.complaint, self.losses_told) = (None, None);
                    tracing::warn!(lost, "the ledger is written again; events of the time between are lost");
                }
                self.losses.count(self.queue.dropped(), now_ms);
                if self.losses_told.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
                    self.tell_lost();
                }
                let acknowledged = match lines {
                    Ok(()) => count,
                    Err(error) => {
                        self.lines.lost(count, &error);
                        0
                    }
                };
                (acknowledged, first_seen)
            }
            Err(error) => {
                self.queue.count_lost(DropReason::DatabaseFailed, count);
                self.failing = Some(self.failing.unwrap_or(0) + count);
                self.losses.is_not_told();
                self.losses.count(self.queue.dropped(), now_ms);
                self.complain(DropReason::DatabaseFailed.as_str(), count, &error.to_string());
                (0, FirstSeen::default())
            }
        };
        self.report.send_modify(|now| {
            now.settled += count;
            now.acknowledged += acknowledged;
            now.first_seen += first_seen;
            now.forgotten = self.store.forgotten();
            now.clock_ahead_ms = self.clock.ahead_ms();
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
    async fn append(&mut self, group: &Group, now_ms: i64) -> Result<Appended, StoreError> {
        self.settle_in_place().await?;
        let first_seen = self.store.append(group, now_ms).await?;
        if self.store.is_in_place() {
            return Ok(Appended::Here(first_seen));
        }
        if !self.lock.is_in_place() {
            return Ok(Appended::Apart(first_seen));
        }
        match self.settle_in_place().await? {
            Settled::AsItWas => Ok(Appended::Here(first_seen)),
            // The group was lost with the file that was moved, removed or truncated meanwhile.
            Settled::BegunAnew => self.store.append(group, now_ms).await.map(Appended::Here),
        }
    }

    /// Recreates a ledger file that was moved, removed or truncated; not if its folder is missing or belongs to another.
    async fn settle_in_place(&mut self) -> Result<Settled, StoreError> {
        if self.store.is_in_place() {
            self.find_again();
            return Ok(Settled::AsItWas);
        }
        if !self.lock.is_in_place() {
            let cause = "the state folder was moved or removed while gnomon ran: put it back, or restart gnomon";
            return Err(StoreError::refused(std::io::Error::other(cause)));
        }
        self.store.begin_anew().await?;
        if let Some((events, _)) = self.apart.take() {
            self.queue.count_lost(DropReason::DatabaseFailed, events);
        }
        let cause = "the ledger's file or its log (-wal) was moved, removed or truncated while gnomon ran; what that had is gone from here, and another was begun";
        tracing::error!("{cause}");
        let mut seen = Observation::new();
        seen.set(Field::Health, "ledger_begun_anew");
        seen.set(Field::Action, Action::Log.as_str());
        seen.set(Field::DetectionClass, Class::Health.as_str());
        seen.set(Field::Message, cause);
        let _ = self.unusual.try_send(seen);
        Ok(Settled::BegunAnew)
    }

    /// The ledger is where it was: what was written while its folder was moved is there.
    fn find_again(&mut self) {
        if let Some((events, first_seen)) = self.apart.take() {
            self.report.send_modify(|now| {
                now.acknowledged += events;
                now.first_seen += first_seen;
            });
        }
    }

    /// The time by which events are too old.
    fn keep_by(&mut self) -> i64 {
        let SteadyTime { now_ms, jumped_ms } = self.clock.read();
        if let Some(jumped) = jumped_ms {
            let (seconds, way) = (jumped.unsigned_abs() / 1000, if jumped < 0 { "back" } else { "ahead" });
            tracing::warn!(
                seconds,
                "the clock went {way}; nothing is removed as too old by it before it has stood for a day: look whether the time is right"
            );
        }
        now_ms
    }

    /// Tells of losses that nobody was told of; where nothing can be written they stay until it can.
    fn tell_lost(&mut self) {
        if self.failing.is_some() || !self.losses.is_due() {
            return;
        }
        self.losses_told = Some(Instant::now());
        let told = self.losses.tell();
        if self.unusual.try_send(told).is_err() {
            self.losses.is_not_told();
        }
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
        let retention = (self.store.forgotten(), self.clock.ahead_ms());
        self.report.send_if_modified(|now| {
            let before = (now.forgotten, now.clock_ahead_ms);
            (now.forgotten, now.clock_ahead_ms) = retention;
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

#[cfg(test)]
mod tests;
