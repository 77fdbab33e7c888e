//! Where reports go: finished, counted, handed to the ledger.

use crate::{Finisher, FlowOutcome, Metrics};
use gnomon_inspect::Sighting;
use gnomon_ledger::{Event, Ledger};
use gnomon_observe::{Field, Lookup, Observation, Value};
use smol_str::SmolStr;
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// Records what the proxy saw.
pub struct Recorder {
    ledger: Ledger,
    metrics: Metrics,
    finisher: Mutex<Finisher>,
}

impl Recorder {
    /// A recorder into this ledger.
    #[must_use]
    pub fn new(ledger: Ledger, metrics: Metrics) -> Self {
        Self { ledger, metrics, finisher: Mutex::new(Finisher::new()) }
    }

    /// The metrics it counts into.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The ledger it writes into.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Records the reports of one exchange that began at `started`; gives the numbers and names of its calls.
    pub(crate) fn record(&self, sightings: Vec<Sighting>, started: Instant) -> Vec<(u32, SmolStr)> {
        if sightings.is_empty() {
            return Vec::new();
        }
        self.write(sightings, Some(started.elapsed()))
    }

    /// Records what became of calls of an exchange that began at `started`, after their events.
    pub(crate) fn outcomes(&self, outcomes: Vec<Observation>, started: Instant) {
        for mut seen in outcomes {
            seen.set(Field::DurationMs, u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
            let _ = self.ledger.record(Event::now(seen));
        }
    }

    /// Records how a connection ended.
    pub(crate) fn flow(&self, outcome: FlowOutcome, sightings: Vec<Sighting>) {
        self.metrics.flow(outcome);
        self.report(sightings);
    }

    /// Records events that come from no HTTP exchange.
    pub fn report(&self, sightings: Vec<Sighting>) {
        if !sightings.is_empty() {
            let _ = self.write(sightings, None);
        }
    }

    fn write(&self, mut sightings: Vec<Sighting>, duration: Option<Duration>) -> Vec<(u32, SmolStr)> {
        let now = SystemTime::now();
        self.finisher.lock().unwrap_or_else(PoisonError::into_inner).relate(&mut sightings, now, duration);
        let mut last_call = None;
        let mut calls = Vec::with_capacity(1);
        for Sighting { seen, call, .. } in sightings {
            if last_call != Some(call) {
                self.metrics.message(&seen);
                if let Lookup::Value(Value::Str(id)) = seen.get(Field::ObservationId) {
                    calls.push((call, id.clone()));
                }
            }
            last_call = Some(call);
            self.metrics.event(&seen);
            // A full queue is counted by the ledger; the proxy never waits for the disk.
            let _ = self.ledger.record(Event::at(seen, now));
        }
        calls
    }
}
