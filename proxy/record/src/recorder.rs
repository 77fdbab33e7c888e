//! The destination of reports: finished, counted, handed to the ledger.

use crate::{Duties, Finisher, FlowOutcome, Metrics, aftermath::Told, finish::When};
use gnomon_inspect::Sighting;
use gnomon_kit::whole_millis;
use gnomon_ledger::{Event, Ledger};
use gnomon_observe::{Field, Lookup, Observation, Value};
use parking_lot::Mutex;
use smol_str::SmolStr;
use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

/// Records observations, on every road, and keeps the work in progress that owes a record.
pub struct Recorder {
    pub(crate) book: Arc<Book>,
    duties: Arc<Duties>,
}

/// The recorder's ledger, metrics and finisher. Apart from the duties, which hold it.
pub(crate) struct Book {
    ledger: Ledger,
    metrics: Metrics,
    finisher: Mutex<Finisher>,
}

impl Recorder {
    /// A recorder into this ledger.
    #[must_use]
    pub fn new(ledger: Ledger, metrics: Metrics) -> Self {
        let duties = Duties::new(metrics.unfinished());
        Self { book: Arc::new(Book { ledger, metrics, finisher: Mutex::new(Finisher::new()) }), duties }
    }

    /// The metrics it counts into.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.book.metrics
    }

    /// The ledger it writes into.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.book.ledger
    }

    /// The open duties. Every road attends to them ([`Duties::attend`]) for as long as it serves.
    #[must_use]
    pub fn duties(&self) -> &Arc<Duties> {
        &self.duties
    }

    /// Records how a connection ended.
    pub fn flow(&self, outcome: FlowOutcome, sightings: Vec<Sighting>) {
        self.book.metrics.flow(outcome);
        self.report(sightings);
    }

    /// Records events that come from no HTTP exchange.
    pub fn report(&self, sightings: Vec<Sighting>) {
        if !sightings.is_empty() {
            let _ = self.book.write(sightings, &Told::default(), When { seen: SystemTime::now(), lasted: None });
        }
    }
}

impl Book {
    /// Records the reports of one exchange that began at `began`, of calls seen at `seen`; gives the numbers and names of those
    /// that `told` does not know.
    pub fn record(&self, sightings: Vec<Sighting>, told: &Told, began: Instant, seen: Instant) -> Vec<(u32, SmolStr)> {
        if sightings.is_empty() {
            return Vec::new();
        }
        let now = SystemTime::now();
        let seen = now.checked_sub(seen.elapsed()).unwrap_or(now);
        self.write(sightings, told, When { seen, lasted: Some(began.elapsed()) })
    }

    /// Records the outcomes of calls of an exchange that began at `began`, after their events.
    pub fn outcomes(&self, outcomes: Vec<Observation>, began: Instant) {
        for mut seen in outcomes {
            seen.set(Field::DurationMs, whole_millis(began.elapsed()));
            let _ = self.ledger.record(Event::now(seen));
        }
    }

    fn write(&self, mut sightings: Vec<Sighting>, told: &Told, when: When) -> Vec<(u32, SmolStr)> {
        self.finisher.lock().relate(&mut sightings, told, &when);
        self.metrics.detected(&sightings, when.seen);
        let mut last_call = None;
        let mut calls = Vec::with_capacity(1);
        for Sighting { seen, call, .. } in sightings {
            if last_call != Some(call) && told.id(call).is_none() {
                self.metrics.message(&seen);
                if let Lookup::Value(Value::Str(id)) = seen.get(Field::ObservationId) {
                    calls.push((call, id.clone()));
                }
            }
            last_call = Some(call);
            self.metrics.event(&seen);
            // A full queue is counted by the ledger; the proxy never waits for the disk.
            let _ = self.ledger.record(Event::at(seen, when.seen));
        }
        calls
    }
}
