//! Sinks of events.

use crate::{Delivery, OtlpSink, SyslogSink};
use gnomon_ledger::StoredEvent;
use std::time::Duration;

/// A receiver of events.
#[derive(Debug)]
pub enum Sink {
    /// An OpenTelemetry collector.
    Otlp(Box<OtlpSink>),
    /// A syslog server.
    Syslog(SyslogSink),
}

impl Sink {
    /// The name in metrics, messages and the cursor file's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Otlp(_) => "otlp",
            Self::Syslog(_) => "syslog",
        }
    }

    /// The receiver's name, for messages.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::Otlp(sink) => sink.target(),
            Self::Syslog(sink) => sink.target(),
        }
    }

    /// The interval of looking for new events. Each syslog batch has a connection of its own, so it waits for company.
    pub(crate) const fn poll(&self) -> Duration {
        match self {
            Self::Otlp(_) => Duration::from_secs(1),
            Self::Syslog(_) => Duration::from_secs(5),
        }
    }

    pub(crate) async fn deliver(&self, events: &[StoredEvent]) -> Delivery {
        match self {
            Self::Otlp(sink) => sink.deliver(events).await,
            Self::Syslog(sink) => sink.deliver(events).await,
        }
    }
}
