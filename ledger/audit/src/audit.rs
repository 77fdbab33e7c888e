//! The handle that records, and the one writer behind it: chains what waits, commits it as a group, signs checkpoints.

use crate::{
    Record, RecordKind, SigningKey,
    continued::Continued,
    delivery::Delivery,
    losses::{Losses, Untold},
    queue::{Queue, Recorded, Taken, Waiting},
    sink::Sink,
    store::{Columns, Store, StoreError},
};
use gnomon_kit::{Later, Opens};
use std::{
    io::ErrorKind,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use thiserror::Error;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

/// The interval at which a lasting failure is logged.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Options of the audit.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// The time for which the first record of a group waits for more, unless a caller waits for it. Default 200 ms: each commit syncs the
    /// disk and writes every page anew that it touched.
    pub commit_every: Duration,
    /// The interval of checkpoints while there are new records; over records that an earlier process left without one, one is made at the start.
    /// Default one minute: the records of that time an attacker can remove without a trace.
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
    /// By how many seconds the system's clock is ahead of the time by which records are too old: negative where it is behind, zero where it is
    /// believed.
    pub clock_ahead_s: i64,
}

/// How the store of an audit is opened, and the key that signs it, each time that it is tried.
pub type OpensStore = Opens<(Box<dyn Store>, SigningKey), StoreError>;

#[derive(Default)]
struct Counters {
    /// True once the store is open.
    is_open: AtomicBool,
    written: AtomicU64,
    forgotten: AtomicU64,
    clock_ahead_s: AtomicI64,
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
        store: Box<dyn Store>,
        key: SigningKey,
        sinks: Vec<Box<dyn Sink>>,
        options: AuditOptions,
    ) -> Result<(Self, Writer), StoreError> {
        let chain = Continued::read(store, key, options.clock.as_deref()).await?;
        let mut task = Task::new(Later::opened(chain), sinks, options);
        task.open().await?;
        Ok(task.spawn())
    }

    /// Starts the writer on this runtime with a store that is opened once it can be: each group of records tries. Until then
    /// records are lost, and counted ([`is_open`](Self::is_open)).
    #[must_use]
    pub fn start_later(mut open: OpensStore, sinks: Vec<Box<dyn Sink>>, options: AuditOptions) -> (Self, Writer) {
        let clock = options.clock.clone();
        let chain = Later::waiting(Box::new(move || {
            let (opening, clock) = (open(), clock.clone());
            Box::pin(async move {
                let (store, key) = opening.await?;
                Continued::read(store, key, clock.as_deref()).await
            })
        }));
        Task::new(chain, sinks, options).spawn()
    }

    /// True once its store is open. Before, nothing can be recorded, so nothing should be done that is to be recorded; a record that
    /// is waited for tries to open it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.counters.is_open.load(Ordering::Relaxed)
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
            clock_ahead_s: self.counters.clock_ahead_s.load(Ordering::Relaxed),
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
    chain: Later<Continued, StoreError>,
    deliveries: Vec<Delivery>,
    options: AuditOptions,
    /// The time at which this process made the last checkpoint; none if another did.
    made: Option<Instant>,
    /// The number of lost records that the audit has recorded.
    told_lost: u64,
    losses: Option<Losses>,
    /// That `losses` could not be opened is logged.
    told_of_losses: bool,
    /// The content of `losses`.
    remembered: Untold,
    /// What an earlier process lost, until the chain can be asked whether it tells of that.
    inherited: Option<Untold>,
    complained: Option<Instant>,
    /// That what earlier processes wrote is torn is logged.
    told_torn: bool,
}

impl Task {
    fn new(chain: Later<Continued, StoreError>, sinks: Vec<Box<dyn Sink>>, options: AuditOptions) -> Self {
        let counters = Arc::new(Counters::default());
        let deliveries = sinks.into_iter().map(|sink| Delivery::start(sink, counters.send_failures.clone())).collect();
        let mut task = Self {
            queue: Arc::new(Queue::default()),
            counters,
            chain,
            deliveries,
            options,
            made: None,
            told_lost: 0,
            losses: None,
            told_of_losses: false,
            remembered: Untold::default(),
            inherited: None,
            complained: None,
            told_torn: false,
        };
        task.open_losses();
        task
    }

    fn spawn(self) -> (Audit, Writer) {
        let (queue, counters) = (self.queue.clone(), self.counters.clone());
        let task = tokio::spawn(self.run());
        (Audit { queue: queue.clone(), counters }, Writer { queue, task })
    }

    /// Opens the file of what is lost; a full disk may not have had room for it.
    fn open_losses(&mut self) {
        let Some(path) = self.options.losses.as_deref().filter(|_| self.losses.is_none()) else { return };
        match Losses::open(path) {
            Ok((losses, untold)) => {
                (self.losses, self.remembered) = (Some(losses), untold);
                self.inherited = Some(untold).filter(|untold| untold.records > 0);
            }
            Err(_) if self.told_of_losses => {}
            Err(error) => {
                self.told_of_losses = true;
                let file = path.display();
                let next = match error.kind() {
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room: it is tried again",
                    ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                        "make it, or its folder, writable for the user gnomon runs as: it is tried again"
                    }
                    ErrorKind::InvalidData => "remove it: it is tried again",
                    _ => "it is tried again",
                };
                tracing::error!("records that are lost are forgotten at a stop, as {file} cannot keep their number: {error}; {next}");
            }
        }
    }

    /// The chain, opened if it was not yet. What an earlier process lost, and the chain does not tell of, then counts as lost.
    async fn open(&mut self) -> Result<&mut Continued, StoreError> {
        let waited = self.chain.as_ref().is_none();
        if waited {
            self.chain.get().await?;
            tracing::info!("there is room for the audit again: its portals answer from now on");
            self.open_losses();
        }
        let chain = self.chain.get().await?;
        if let Some(untold) = self.inherited {
            let is_told = chain.has_told(untold).await?;
            self.queue.lose(if is_told { 0 } else { untold.records });
            self.inherited = None;
        }
        self.counters.is_open.store(true, Ordering::Relaxed);
        Ok(chain)
    }

    async fn run(mut self) {
        // Earlier losses are recorded first.
        self.write(Vec::new()).await;
        self.look_at_clock().await;
        self.confirm_earlier().await;
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
            self.confirm_earlier().await;
            if shut {
                break;
            }
            if Instant::now() >= look {
                look = Instant::now() + self.options.checkpoint_every;
                self.look_at_clock().await;
                self.open_losses();
                let silent = self.made.is_none_or(|made| made.elapsed() >= self.options.heartbeat);
                if self.chain.as_ref().is_some_and(|chain| silent || chain.has_new()) {
                    self.checkpoint().await;
                    self.forget().await;
                }
            }
        }
        if self.chain.as_ref().is_some_and(Continued::has_new) {
            self.checkpoint().await;
        }
        let untold = self.untold();
        if untold > 0 {
            let when = if self.losses.is_some() { "the next start tells of them" } else { "nothing will tell of them" };
            tracing::error!(records = untold, "the audit ends without records that could not be written; {when}");
        }
        for delivery in self.deliveries {
            delivery.end().await;
        }
        if let Some(chain) = self.chain.into_inner()
            && let Err(error) = chain.close().await
        {
            tracing::error!(cause = %error, "the audit's database could not be closed");
        }
    }

    /// The number of records that are lost and that the chain does not tell of, as far as is known.
    fn untold(&self) -> u64 {
        self.inherited.map_or(0, |untold| untold.records) + self.queue.lost() - self.told_lost
    }

    async fn write(&mut self, mut waiting: Vec<Waiting>) {
        // Before losses are counted, as it may find some.
        let opened = self.open().await.map(drop);
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
        let appended = match opened {
            Ok(()) => self.append(records).await,
            Err(error) => Err(error),
        };
        let first = match appended {
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

    async fn append(&mut self, records: Vec<(String, Columns)>) -> Result<u64, StoreError> {
        self.chain.get().await?.append(records).await
    }

    /// Stores how many lost records the audit has not recorded.
    async fn remember(&mut self) {
        let records = self.untold();
        let Some(losses) = self.losses.as_ref().filter(|_| records != self.remembered.records) else { return };
        // A chain that could not be opened goes as far as it did.
        let after = self.chain.as_ref().map_or(self.remembered.after, |chain| chain.head.seq);
        let untold = Untold { records, after };
        match losses.keep(untold).await {
            Ok(()) => self.remembered = untold,
            Err(error) => self.complain("how many records are lost", &StoreError::Database(error.to_string())),
        }
    }

    /// Makes a checkpoint at once over what earlier processes wrote and none has: one that keeps ending before its first is due would
    /// never make any. What is not chained to the last one waits for its turn, and is told.
    async fn confirm_earlier(&mut self) {
        if self.told_torn || !self.chain.as_ref().is_some_and(Continued::has_earlier) {
            return;
        }
        let chained = match self.chain.get().await {
            Ok(chain) => chain.is_chained().await,
            Err(error) => Err(error),
        };
        match chained {
            Ok(true) => self.checkpoint().await,
            Ok(false) => {
                self.told_torn = true;
                tracing::error!(
                    "records of the audit since its last checkpoint are not as they were written while no gnomon ran; gnomon audit verify names them (docs/audit.md)"
                );
            }
            Err(error) => self.complain("a checkpoint over earlier records", &error),
        }
    }

    async fn checkpoint(&mut self) {
        let signed = match self.chain.get().await {
            Ok(chain) => chain.checkpoint().await,
            Err(error) => Err(error),
        };
        match signed {
            Ok(Some(line)) => {
                self.made = Some(Instant::now());
                self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
                self.deliveries.iter().for_each(|delivery| delivery.send(&line));
            }
            Ok(None) => {}
            Err(error) => self.complain("a checkpoint", &error),
        }
    }

    /// Tells of a clock that jumped, also where nothing is recorded.
    async fn look_at_clock(&mut self) {
        if self.chain.as_ref().is_some()
            && let Ok(chain) = self.chain.get().await
        {
            chain.look_at_clock().await;
            self.counters.clock_ahead_s.store(chain.clock.ahead_ms() / 1000, Ordering::Relaxed);
        }
    }

    /// Deletes records older than retention, up to a checkpoint, so that the rest can still be verified.
    async fn forget(&mut self) {
        let Some(retention) = self.options.retention else { return };
        let forgotten = match self.chain.get().await {
            Ok(chain) => chain.forget(retention).await,
            Err(error) => Err(error),
        };
        match forgotten {
            Ok(0) => {}
            Ok(records) => {
                self.counters.forgotten.fetch_add(records, Ordering::Relaxed);
                tracing::info!(records, "retention removed records of the audit that were too old");
            }
            Err(error) => self.complain("retention", &error),
        }
    }

    fn complain(&mut self, what: &str, error: &StoreError) {
        if self.complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            tracing::error!(what, cause = %error, "the audit could not be written; trying on");
        }
    }
}
