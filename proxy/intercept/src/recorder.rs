//! Where reports go: finished, counted, handed to the ledger.

use crate::{Finisher, FlowOutcome, Metrics};
use gnomon_inspect::Sighting;
use gnomon_ledger::{Event, Ledger};
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

    /// Records the reports of one exchange that began at `started`.
    pub(crate) fn record(&self, sightings: Vec<Sighting>, started: Instant) {
        if sightings.is_empty() {
            return;
        }
        self.write(sightings, Some(started.elapsed()));
    }

    /// Records how a connection ended.
    pub(crate) fn flow(&self, outcome: FlowOutcome, sightings: Vec<Sighting>) {
        self.metrics.flow(outcome);
        self.report(sightings);
    }

    /// Records events that come from no HTTP exchange.
    pub fn report(&self, sightings: Vec<Sighting>) {
        if !sightings.is_empty() {
            self.write(sightings, None);
        }
    }

    fn write(&self, mut sightings: Vec<Sighting>, duration: Option<Duration>) {
        let now = SystemTime::now();
        self.finisher.lock().unwrap_or_else(PoisonError::into_inner).relate(&mut sightings, now, duration);
        let mut last_call = None;
        for Sighting { seen, call, .. } in sightings {
            if last_call != Some(call) {
                self.metrics.message(&seen);
            }
            last_call = Some(call);
            self.metrics.event(&seen);
            // A full queue is counted by the ledger; the proxy never waits for the disk.
            let _ = self.ledger.record(Event::at(seen, now));
        }
    }
}
