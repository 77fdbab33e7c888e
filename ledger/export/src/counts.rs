//! Metrics of exports, for Prometheus.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// The metrics of all sinks.
#[derive(Clone, Debug)]
pub struct ExportMetrics {
    events: IntCounterVec,
    lost: IntCounterVec,
    failures: IntCounterVec,
    lag: IntGaugeVec,
    succeeded: IntGaugeVec,
}

impl ExportMetrics {
    /// Registers them. A sink's series stand at 0 as soon as there is an exporter for it.
    ///
    /// # Errors
    /// When the registry has one of the names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let gauge = |name: &str, help: &str| {
            let vec = IntGaugeVec::new(Opts::new(name, help), &["sink"])?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        Ok(Self {
            events: counter(
                "gnomon_export_events_total",
                "Events that a sink accepted (`delivered`) or refused for good (`rejected`).",
                &["sink", "outcome"],
            )?,
            lost: counter("gnomon_export_lost_total", "Events that retention removed before they were sent.", &["sink"])?,
            failures: counter("gnomon_export_failures_total", "Attempts that failed and are made again.", &["sink"])?,
            lag: gauge("gnomon_export_lag_events", "Events in the ledger that were not sent yet.")?,
            succeeded: gauge(
                "gnomon_export_last_success_timestamp_seconds",
                "When a sink last accepted events, seconds since the Unix epoch; 0 before the first time.",
            )?,
        })
    }

    /// The series of one sink, at 0.
    pub fn show(&self, sink: &'static str) {
        self.of(sink);
    }

    pub(crate) fn of(&self, sink: &'static str) -> SinkCounts {
        SinkCounts {
            delivered: self.events.with_label_values(&[sink, "delivered"]),
            rejected: self.events.with_label_values(&[sink, "rejected"]),
            lost: self.lost.with_label_values(&[sink]),
            failures: self.failures.with_label_values(&[sink]),
            lag: self.lag.with_label_values(&[sink]),
            succeeded: self.succeeded.with_label_values(&[sink]),
        }
    }
}

/// The series of one sink.
#[derive(Debug)]
pub(crate) struct SinkCounts {
    pub(crate) delivered: IntCounter,
    pub(crate) rejected: IntCounter,
    pub(crate) lost: IntCounter,
    pub(crate) failures: IntCounter,
    pub(crate) lag: IntGauge,
    pub(crate) succeeded: IntGauge,
}
