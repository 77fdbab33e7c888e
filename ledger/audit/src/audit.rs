//! The handle that records, and the one writer behind it: chains what waits, commits it as a group, signs checkpoints.

use crate::{
    Checkpoint, Record, RecordKind, SigningKey,
    chain::Head,
    delivery::Delivery,
    losses::{Losses, Untold},
    queue::{Queue, Recorded, Taken, Waiting},
    sink::Sink,
    store::{Columns, KeptCheckpoint, Store, StoreError, StoredRecord},
};
use gnomon_clock::KeptClock;
use gnomon_kit::{SteadyTime, unix_millis};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use thiserror::Error;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

/// The number of retries after a conflict with another writer.
const TRIES: usize = 5;
/// The interval at which a lasting failure is logged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Options of the audit.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// The time for which the first record of a group waits for more, unless a caller waits for it. Default 200 ms: each commit syncs the
    /// disk and writes every page anew that it touched.
    pub commit_every: Duration,
    /// The interval of checkpoints while there are new records. Default one minute: the records of that time an attacker can remove
    /// without a trace.
    pub checkpoint_every: Duration,
    /// The interval of checkpoints without new records, so that silence shows. Default one hour.
    pub heartbeat: Duration,
    /// Retention of records; for ever without. Default a year.
    pub retention: Option<Duration>,
    /// The file of the number of lost records that the chain does not report yet, for a restart. Without it, only the process that lost
    /// them reports them.
    pub losses: Option<PathBuf>,
    /// The file that keeps what is known of the time, so that a clock that jumped is not believed because of a restart. Without, nothing is too old
    /// before it has stood for a day.
    pub clock: Option<PathBuf>,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            commit_every: Duration::from_millis(200),
            checkpoint_every: Duration::from_secs(60),
            heartbeat: Duration::from_secs(3600),
            retention: Some(Duration::from_secs(365 * 24 * 3600)),
            losses: None,
            clock: None,
        }
    }
}

/// Counters of the audit, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditCounts {
    /// Records that are durable.
    pub written: u64,
    /// Records that are lost.
    pub lost: u64,
    /// Checkpoints that were made.
    pub checkpoints: u64,
    /// Attempts to send a checkpoint that failed.
    pub send_failures: u64,
    /// Records that retention removed.
    pub forgotten: u64,
}

#[derive(Default)]
struct Counters {
    written: AtomicU64,
    forgotten: AtomicU64,
    checkpoints: AtomicU64,
    send_failures: Arc<AtomicU64>,
}

/// A record could not be made durable. What it was about must not go on where the audit is a condition.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the audit could not write the record")]
pub struct NotWritten;

/// Records. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
}

/// The writer; the audit ends with it.
pub struct Writer {
    queue: Arc<Queue>,
    task: JoinHandle<()>,
}

impl Audit {
    /// Starts the writer on this runtime.
    ///
    /// # Errors
    /// When the store does not say how far the chain goes.
    pub async fn start(
        mut store: Box<dyn Store>,
        key: SigningKey,
        sinks: Vec<Box<dyn Sink>>,
        options: AuditOptions,
    ) -> Result<(Self, Writer), StoreError> {
        let head = store.head().await?;
        let last = store.checkpoint_before(i64::MAX).await?;
        let queue = Arc::new(Queue::default());
        let (losses, remembered) = match options.losses.as_deref().map(|path| (path, Losses::open(path))) {
            None => (None, 0),
            Some((_, Ok((losses, untold)))) => {
                let told = told(store.as_mut(), untold).await?;
                queue.lose(if told { 0 } else { untold.records });
                (Some(losses), untold.records)
            }
            Some((path, Err(error))) => {
                let file = path.display();
                tracing::error!(
                    "records that are lost are forgotten at a stop, as {file} cannot keep their number: {error}; remove it, or make it ours to write"
                );
                (None, 0)
            }
        };
        let counters = Arc::new(Counters::default());
        let deliveries = sinks.into_iter().map(|sink| Delivery::start(sink, counters.send_failures.clone())).collect();
        let is_new = head.seq == 0 && last.is_none();
        let clock = options.clock.as_deref().map_or_else(|| KeptClock::forgetful(is_new), |path| KeptClock::open(path, is_new));
        let number = last.as_ref().map_or(0, |last| last.number);
        let checkpointed = last.map_or(0, |last| last.head.seq);
        let task = Task {
            queue: queue.clone(),
            counters: counters.clone(),
            store,
            key,
            deliveries,
            options,
            head,
            number,
            checkpointed,
            made: None,
            told_lost: 0,
            losses,
            remembered,
            clock,
            complained: None,
        };
        let task = tokio::spawn(task.run());
        Ok((Self { queue: queue.clone(), counters }, Writer { queue, task }))
    }

    /// Records an act. Never waits.
    pub fn record(&self, record: Record) -> Recorded {
        self.queue.push(waiting(record, None))
    }

    /// Records an act and waits until it is durable; its number.
    ///
    /// # Errors
    /// When it is not.
    pub async fn record_durably(&self, record: Record) -> Result<u64, NotWritten> {
        let (done, written) = oneshot::channel();
        match self.queue.push(waiting(record, Some(done))) {
            Recorded::Queued => written.await.ok().and_then(Result::ok).ok_or(NotWritten),
            Recorded::Lost => Err(NotWritten),
        }
    }

    /// The counters so far.
    #[must_use]
    pub fn counts(&self) -> AuditCounts {
        AuditCounts {
            written: self.counters.written.load(Ordering::Relaxed),
            lost: self.queue.lost(),
            checkpoints: self.counters.checkpoints.load(Ordering::Relaxed),
            send_failures: self.counters.send_failures.load(Ordering::Relaxed),
            forgotten: self.counters.forgotten.load(Ordering::Relaxed),
        }
    }
}

impl Writer {
    /// Writes what waits, makes a last checkpoint, and ends.
    pub async fn shutdown(self) {
        self.queue.shut();
        let _ = self.task.await;
    }
}

/// True if the chain already has the record that tells of these losses, as it was written before that could be noted.
async fn told(store: &mut dyn Store, untold: Untold) -> Result<bool, StoreError> {
    let next = store.after(untold.after, 1).await?;
    Ok(next.first().is_some_and(|next| next.head.seq == untold.after + 1 && next.columns.kind == RecordKind::Lost.as_str()))
}

fn waiting(mut record: Record, done: Option<oneshot::Sender<Result<u64, ()>>>) -> Waiting {
    let body = record.encode();
    let text = |text: &Option<smol_str::SmolStr>| text.as_ref().map(ToString::to_string);
    let columns = Columns {
        at_ms: record.at_ms(),
        kind: record.kind.as_str().to_owned(),
        user: text(&record.user_name),
        server: text(&record.server),
    };
    Waiting { body, columns, done }
}

struct Task {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    store: Box<dyn Store>,
    key: SigningKey,
    deliveries: Vec<Delivery>,
    options: AuditOptions,
    head: Head,
    number: u64,
    /// The record of the last checkpoint.
    checkpointed: u64,
    /// The time at which this process made it; none if another did.
    made: Option<Instant>,
    /// The number of lost records that the audit has recorded.
    told_lost: u64,
    losses: Option<Losses>,
    /// The number of untold ones in `losses`.
    remembered: u64,
    /// The time by which records are too old.
    clock: KeptClock,
    complained: Option<Instant>,
}

impl Task {
    async fn run(mut self) {
        // Earlier losses are recorded first.
        self.write(Vec::new()).await;
        let mut look = Instant::now() + self.options.checkpoint_every;
        loop {
            tokio::select! {
                () = self.queue.arrived() => {}
                () = sleep_until(look) => {}
            }
            tokio::select! {
                () = self.queue.hurried() => {}
                () = sleep(self.options.commit_every) => {}
            }
            let Taken { waiting, shut } = self.queue.take();
            self.write(waiting).await;
            if shut {
                break;
            }
            if Instant::now() >= look {
                look = Instant::now() + self.options.checkpoint_every;
                let silent = self.made.is_none_or(|made| made.elapsed() >= self.options.heartbeat);
                if self.head.seq > self.checkpointed || silent {
                    self.checkpoint().await;
                    self.forget().await;
                }
            }
        }
        if self.head.seq > self.checkpointed {
            self.checkpoint().await;
        }
        let untold = self.queue.lost() - self.told_lost;
        if untold > 0 {
            let when = if self.losses.is_some() { "the next start tells of them" } else { "nothing will tell of them" };
            tracing::error!(records = untold, "the audit ends without records that could not be written; {when}");
        }
        let clock = self.clock;
        let _ = tokio::task::spawn_blocking(move || clock.keep()).await;
        for delivery in self.deliveries {
            delivery.end().await;
        }
        if let Err(error) = self.store.close().await {
            tracing::error!(cause = %error, "the audit's database could not be closed");
        }
    }

    async fn write(&mut self, mut waiting: Vec<Waiting>) {
        let lost = self.queue.lost();
        if lost > self.told_lost {
            let record = Record { kind: RecordKind::Lost, lost: Some(lost - self.told_lost), ..Record::at(SystemTime::now()) };
            waiting.insert(0, self::waiting(record, None));
        }
        if waiting.is_empty() {
            return;
        }
        let mut done = Vec::with_capacity(waiting.len());
        let records = waiting.into_iter().map(|one| {
            done.push(one.done);
            (one.body, one.columns)
        });
        let records: Vec<_> = records.collect();
        let count = records.len() as u64;
        let first = match self.append(records).await {
            Ok(first) => Some(first),
            Err(error) => {
                // The group's own record of earlier losses is not counted: the next one reports those as well.
                self.queue.lose(count - u64::from(lost > self.told_lost));
                self.complain("records", &error);
                None
            }
        };
        if first.is_some() {
            self.told_lost = lost;
            self.counters.written.fetch_add(count, Ordering::Relaxed);
        }
        self.remember().await;
        for (n, done) in (0_u64..).zip(done) {
            if let Some(done) = done {
                let _ = done.send(first.map(|first| first + n).ok_or(()));
            }
        }
    }

    /// Stores how many lost records the audit has not recorded.
    async fn remember(&mut self) {
        let untold = self.queue.lost() - self.told_lost;
        let Some(losses) = self.losses.as_ref().filter(|_| untold != self.remembered) else { return };
        match losses.keep(Untold { records: untold, after: self.head.seq }).await {
            Ok(()) => self.remembered = untold,
            Err(error) => self.complain("how many records are lost", &StoreError::Database(error.to_string())),
        }
    }

    /// Chains records to the head and appends them; the number of the first.
    async fn append(&mut self, records: Vec<(String, Columns)>) -> Result<u64, StoreError> {
        self.check_in_place()?;
        let mut entries: Vec<StoredRecord> =
            records.into_iter().map(|(body, columns)| StoredRecord { head: self.head, body, columns }).collect();
        let mut tries = 0;
        loop {
            let mut head = self.head;
            for entry in &mut entries {
                head = head.then(&entry.body);
                entry.head = head;
            }
            if let Some(error) = self.store.append(&entries).await.err() {
                // It may have been written all the same, or another writer was faster: the store knows. A conflict is always
                // another writer's doing, even where it wrote the very same record in the same millisecond.
                let conflict = matches!(error, StoreError::Conflict);
                let now = self.store.head().await?;
                if conflict || now != head {
                    tries += 1;
                    self.head = now;
                    if conflict && tries < TRIES {
                        continue;
                    }
                    return Err(error);
                }
            }
            // Else it went with the file that was moved or removed meanwhile.
            self.check_in_place()?;
            let first = self.head.seq + 1;
            self.head = head;
            return Ok(first);
        }
    }

    /// Fails if the chain's file was moved, removed or truncated. No other chain is begun here: that takes a restart.
    fn check_in_place(&self) -> Result<(), StoreError> {
        if self.store.is_in_place() {
            return Ok(());
        }
        Err(StoreError::Database(
            "its file or its log (-wal) was moved, removed or truncated while gnomon ran: put it back, or restart gnomon, which goes on with what is there, and begins another chain where nothing is".to_owned(),
        ))
    }

    async fn checkpoint(&mut self) {
        if let Err(error) = self.check_in_place() {
            return self.complain("a checkpoint", &error);
        }
        for _ in 0..TRIES {
            let now = SystemTime::now();
            let checkpoint = Checkpoint::sign(&self.key, self.store.chain(), self.number + 1, self.head, now);
            let line: Arc<str> = checkpoint.line().into();
            let kept = KeptCheckpoint { number: checkpoint.number, head: self.head, at_ms: unix_millis(now), line: line.to_string() };
            match self.store.keep(&kept).await {
                Ok(()) => {
                    (self.number, self.checkpointed, self.made) = (checkpoint.number, self.head.seq, Some(Instant::now()));
                    self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
                    self.deliveries.iter().for_each(|delivery| delivery.send(&line));
                    return;
                }
                // Another writer used the number, which must not stand for two things.
                Err(StoreError::Conflict) => match self.store.checkpoint_before(i64::MAX).await {
                    Ok(last) => self.number = last.map_or(self.number, |last| last.number),
                    Err(error) => return self.complain("a checkpoint", &error),
                },
                Err(error) => return self.complain("a checkpoint", &error),
            }
        }
    }

    /// Deletes records older than retention, up to a checkpoint, so that the rest can still be verified.
    async fn forget(&mut self) {
        let Some(retention) = self.options.retention else { return };
        let mut clock = self.clock.clone();
        let read = tokio::task::spawn_blocking(move || (clock.read(), clock));
        let Ok((SteadyTime { now_ms, jumped_ms }, clock)) = read.await else { return };
        self.clock = clock;
        if let Some(jumped) = jumped_ms {
            let seconds = jumped / 1000;
            tracing::warn!(seconds, "the clock jumped; no record of the audit is removed as too old by it before it has stood for a day");
        }
        let before = now_ms.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
        match self.forget_before(before).await {
            Ok(0) => {}
            Ok(records) => {
                self.counters.forgotten.fetch_add(records, Ordering::Relaxed);
                tracing::info!(records, "retention removed records of the audit that were too old");
            }
            Err(error) => self.complain("retention", &error),
        }
    }

    /// Deletes records older than `at_ms` and returns their number.
    async fn forget_before(&mut self, at_ms: i64) -> Result<u64, StoreError> {
        let Some(checkpoint) = self.store.checkpoint_before(at_ms).await? else { return Ok(0) };
        let records = checkpoint.head.seq.saturating_sub(self.store.anchor().await?.seq);
        if records > 0 {
            self.store.trim(checkpoint.head).await?;
        }
        Ok(records)
    }

    fn complain(&mut self, what: &str, error: &StoreError) {
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            tracing::error!(what, cause = %error, "the audit could not be written; trying on");
        }
    }
}
