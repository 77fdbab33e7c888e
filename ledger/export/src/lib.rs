//! Events leave the host: to an OpenTelemetry collector (OTLP logs over HTTP) and to a syslog server.
//!
//! **The ledger is the spool.** An [`Exporter`] reads acknowledged events from the ledger in the order of their numbers, over
//! a read-only connection, and moves its [`SinkCursor`] only when the sink has accepted them. So nothing is buffered in memory,
//! an outage delays no traffic and costs nothing until retention removes events that were not sent (they are counted as
//! lost), and a restart goes on where it was.
//!
//! **The trade-off**: at least once. An event whose answer was lost is sent again; `event.id` tells doubles apart.
//!
//! It judges nothing and changes no field: the flat dotted names of events are the names at the receiver.
#![deny(missing_docs)]

mod backoff;
mod counts;
mod cursor;
mod delivery;
mod endpoint;
mod error;
mod exporter;
mod otlp;
mod post;
mod sink;
mod syslog;
mod trust;

pub use counts::ExportMetrics;
pub use cursor::{CursorError, SinkCursor};
pub use delivery::Delivery;
pub use endpoint::{EndpointError, OtlpEndpoint, SyslogEndpoint, SyslogEndpointError};
pub use error::{SetupError, TrustError};
pub use exporter::{ExportError, Exporter, ExporterOptions};
pub use otlp::{MAX_HEADERS, OtlpOptions, OtlpSink};
pub use post::{Answer, NoAnswer, Post, Posted};
pub use sink::Sink;
pub use syslog::{SyslogOptions, SyslogSink};
pub use trust::roots;

/// Most events of one batch.
pub const MAX_BATCH: usize = 128;
/// Most bytes of events' lines in one batch; one event that is longer goes alone.
pub const MAX_BATCH_BYTES: usize = 1 << 20;
