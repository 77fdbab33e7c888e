//! Sinks of events, and their answers.

use crate::{OtlpSink, SyslogSink, trust::TrustError};
use gnomon_ledger::StoredEvent;
use std::time::Duration;
use thiserror::Error;

/// A sink that cannot be set up.
#[derive(Debug, Error)]
pub enum SetupError {
    /// Its authorities cannot be read.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A header's name or value is none.
    #[error("`{0}` is not a header's name, or its value cannot be sent in a header")]
    Header(String),
    /// TLS cannot verify a server of such a name.
    #[error("`{0}` is not a name that TLS can verify")]
    Name(String),
    /// TLS could not be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The result of sending a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The sink has it, but for so many events, which it will never take.
    Accepted {
        /// The number of events refused.
        rejected: u64,
    },
    /// The sink refuses it for what is in it; sending the same again is of no use.
    Refused {
        /// The receiver's text.
        why: String,
    },
    /// It may or may not have arrived, or will be taken later: send it again.
    Failed {
        /// The failure.
        why: String,
        /// Not before this long.
        after: Option<Duration>,
    },
}

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
