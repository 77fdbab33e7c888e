//! The audit of a running gnomon's portals: opened before they are, closed after them.

use anyhow::{Context, Result};
use gnomon_audit::{
    Audit, AuditCounts, AuditOptions, FileSink, OpensStore, Sending, SigningKey, Sink, SqliteStore, Store, StoreError, Writer,
};
use gnomon_cli::Complaint;
use gnomon_config::Config;
use gnomon_inspect::Sighting;
use gnomon_observe::{Action, Class, Field, Observation};
use gnomon_record::Recorder;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinHandle;

/// Bytes of a GiB.
const GIB: u64 = 1 << 30;
/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;
/// The interval at which counts are copied into the metrics.
const COUNTED_EVERY: Duration = Duration::from_secs(1);

/// The audit's database in a state folder.
pub fn database_in(state_dir: &Path) -> PathBuf {
    state_dir.join("audit.sqlite")
}

/// The key that signs its checkpoints.
pub fn key_in(state_dir: &Path) -> PathBuf {
    state_dir.join("audit.key")
}

/// The file that keeps how many of its records were lost and not yet reported.
fn losses_in(state_dir: &Path) -> PathBuf {
    state_dir.join("audit.lost")
}

/// A running audit.
pub struct Auditing {
    /// Takes the records.
    pub audit: Audit,
    writer: Writer,
    counting: JoinHandle<()>,
}

/// The store of an audit, and the key that signs it.
pub enum Stored {
    /// Open.
    Open(Box<dyn Store>, SigningKey),
    /// To be opened once its disk has room.
    Later(OpensStore),
}

impl Stored {
    /// Opens it, if there is a portal. A full disk keeps nothing from starting: until there is room its portals refuse what they are asked.
    ///
    /// # Errors
    /// The database or the key cannot be used.
    pub async fn open(config: &Config, state_dir: &Path) -> Result<Option<Self>> {
        if config.portals.is_empty() {
            return Ok(None);
        }
        let (database, key, max_bytes) = (database_in(state_dir), key_in(state_dir), config.audit.max_gib * GIB);
        let at = database.display().to_string();
        let mut open: OpensStore = Box::new(move || Box::pin(open(database.clone(), key.clone(), max_bytes)));
        match open().await {
            Ok((store, key)) => Ok(Some(Self::Open(store, key))),
            Err(error) if error.is_full() => {
                tracing::error!("the audit {at} cannot be opened: {error}; until there is room, portals refuse what they are asked");
                Ok(Some(Self::Later(open)))
            }
            Err(error) => {
                let refused = Complaint::own(match error {
                    StoreError::Key(_) => error.to_string(),
                    _ => format!("the audit {at} cannot be opened: {error}"),
                });
                let next = match error {
                    // Each says what to do itself.
                    StoreError::Key(_) | StoreError::Damaged(_) => "docs/audit.md says more",
                    StoreError::Foreign(_) => "name another folder with --state-dir, or see docs/audit.md",
                    StoreError::Database(_) | StoreError::Full(_) | StoreError::Conflict => {
                        "nothing says that it is damaged: leave it where it is, mend the cause, and start again"
                    }
                };
                Err(refused.next(next).into())
            }
        }
    }
}

async fn open(database: PathBuf, key: PathBuf, max_bytes: u64) -> Result<(Box<dyn Store>, SigningKey), StoreError> {
    let mut store = SqliteStore::open(&database, max_bytes).await?;
    let key = SigningKey::of_chain(&key, &mut store).await?;
    Ok((Box::new(store), key))
}

impl Auditing {
    /// Starts it.
    ///
    /// # Errors
    /// If the stored chain cannot be read or continued.
    pub async fn start(stored: Stored, config: &Config, state_dir: &Path, recorder: &Arc<Recorder>) -> Result<Self> {
        let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(EventSink(recorder.clone()))];
        sinks.extend(config.audit.checkpoints.iter().map(|path| Box::new(FileSink::new(path)) as Box<dyn Sink>));
        let options = AuditOptions {
            checkpoint_every: Duration::from_secs(config.audit.checkpoint_seconds),
            retention: Some(Duration::from_secs(config.audit.days * DAY)),
            losses: Some(losses_in(state_dir)),
            clock: Some(state_dir.join("audit.clock")),
            ..AuditOptions::default()
        };
        let counters = AuditCounters::register(recorder.metrics().registry())?;
        let (audit, writer) = match stored {
            Stored::Open(store, key) => Audit::start(store, key, sinks, options).await.context("opening the audit")?,
            Stored::Later(open) => Audit::start_later(open, sinks, options),
        };
        let counting = tokio::spawn(count(audit.clone(), counters));
        Ok(Self { audit, writer, counting })
    }

    /// Writes what waits, and a last checkpoint.
    pub async fn stop(self) {
        self.counting.abort();
        self.writer.shutdown().await;
    }
}

/// Makes an event of each checkpoint: it goes wherever events go.
struct EventSink(Arc<Recorder>);

impl Sink for EventSink {
    fn name(&self) -> &str {
        "events"
    }

    fn send<'a>(&'a mut self, line: &'a str) -> Sending<'a> {
        let mut seen = Observation::new();
        seen.set(Field::Health, "audit_checkpoint");
        seen.set(Field::Action, Action::Allow.as_str());
        seen.set(Field::DetectionClass, Class::Health.as_str());
        seen.set(Field::Message, line);
        self.0.report(vec![Sighting { seen, rule: None, action: Action::Allow, class: Class::Health, call: 0 }]);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The audit's counters, for metrics.
pub struct AuditCounters {
    records: IntCounterVec,
    checkpoints: IntCounter,
    failures: IntCounter,
    forgotten: IntCounter,
    clock_behind: IntGauge,
}

impl AuditCounters {
    /// Registers the counters at 0.
    ///
    /// # Errors
    /// When a metric's name is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let records =
            IntCounterVec::new(Opts::new("gnomon_audit_records_total", "Records of the audit by what became of them."), &["outcome"])?;
        let checkpoints = IntCounter::new("gnomon_audit_checkpoints_total", "Checkpoints of the audit that were signed.")?;
        let failures = IntCounter::new("gnomon_audit_send_failures_total", "Attempts to send a checkpoint away that failed.")?;
        let forgotten = IntCounter::new("gnomon_audit_forgotten_total", "Records of the audit that retention removed.")?;
        let clock_behind = IntGauge::new(
            "gnomon_audit_clock_behind_seconds",
            "By how much the system's clock is ahead of the time by which records of the audit are too old: negative where it is behind, 0 where it is believed.",
        )?;
        registry.register(Box::new(clock_behind.clone()))?;
        registry.register(Box::new(forgotten.clone()))?;
        registry.register(Box::new(records.clone()))?;
        registry.register(Box::new(checkpoints.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        for outcome in ["written", "lost"] {
            records.with_label_values(&[outcome]);
        }
        Ok(Self { records, checkpoints, failures, forgotten, clock_behind })
    }
}

async fn count(audit: Audit, counters: AuditCounters) {
    let mut told = AuditCounts::default();
    loop {
        let now = audit.counts();
        counters.records.with_label_values(&["written"]).inc_by(now.written - told.written);
        counters.records.with_label_values(&["lost"]).inc_by(now.lost - told.lost);
        counters.checkpoints.inc_by(now.checkpoints - told.checkpoints);
        counters.failures.inc_by(now.send_failures - told.send_failures);
        counters.forgotten.inc_by(now.forgotten - told.forgotten);
        counters.clock_behind.set(now.clock_ahead_s);
        told = now;
        tokio::time::sleep(COUNTED_EVERY).await;
    }
}
