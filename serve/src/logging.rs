//! How much of the log nobody got to read, as a metric.

use prometheus::{
    IntCounter, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Lines of the log that were not written, read when they are scraped.
pub struct LogMetrics {
    lost: IntCounter,
}

impl LogMetrics {
    /// Registers them with the rest.
    ///
    /// # Errors
    /// When the registry refuses a name, which is a mistake in this file.
    pub fn register(registry: &Registry) -> Result<(), prometheus::Error> {
        let what = "Lines of the log that were not written, as nobody read them or the disk was full.";
        registry.register(Box::new(Self { lost: IntCounter::new("gnomon_log_lines_lost_total", what)? }))
    }
}

impl Collector for LogMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.lost.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.lost.inc_by(gnomon_log::lost().saturating_sub(self.lost.get()));
        self.lost.collect()
    }
}
