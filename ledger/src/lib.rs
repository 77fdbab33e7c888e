//! What happened, durably: events, the inventory of servers, incidents.
//!
//! [`Ledger::record`] writes an event's line, once, and never waits for the disk; one writer thread puts
//! the same bytes into the JSON-lines file and the SQLite database, many events per transaction. [`Reader`] answers questions about the past over its own read-only connection and
//! never holds the writer up. [`Incidents`] says whether a detection is new or a repeat.
//!
//! **The trade-off**: an event is *acknowledged* only when it is in the file and in the database's
//! write-ahead log, and both were fsynced. That costs two fsyncs, so events wait up to
//! [`LedgerOptions::commit_every`] for company, and the request path does not wait at all: when the
//! bounded queue is full an event is dropped and counted by reason. A kill -9 loses nothing
//! acknowledged. An event that was *not yet* acknowledged may be found in the file and not in the
//! database; `event.id` tells such doubles apart.
//!
//! ```
//! use gnomon_ledger::{Event, EventFilter, Ledger, LedgerOptions, Order, Reader, Recorded};
//! use gnomon_observe::{Field, Observation};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let state = tempfile::tempdir()?;
//! let path = state.path().join("ledger.sqlite");
//! let (ledger, writer) = Ledger::open(LedgerOptions::new(&path)).await?;
//! let mut seen = Observation::new();
//! seen.set(Field::ServerAddress, "mcp.example.com");
//! assert_eq!(ledger.record(Event::now(seen)), Recorded::Queued);
//! ledger.flush().await?;
//! let events = Reader::open(&path).await?.events(&EventFilter::default(), Order::NewestFirst).await?;
//! assert!(events[0].json.contains("mcp.example.com"));
//! writer.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! It judges nothing, knows no metrics library (it exposes counts) and no wire format but JSON.
//! SQL stays inside `sqlite`, so that another database can join behind the same types.
#![deny(missing_docs)]

mod condition;
mod counts;
mod daily;
mod encode;
mod error;
mod event;
mod fair;
mod group;
mod ids;
mod incidents;
mod inventory;
mod jsonl;
mod ledger;
mod lock;
mod options;
mod queue;
mod reader;
mod reviews;
mod seen;
mod sqlite;
mod story;
mod usage;
mod verdict;
mod volume;
mod writer;

pub use condition::{Comparison, Condition, ConditionError};
pub use counts::{FirstSeen, LedgerCounts};
pub use daily::{DailyIncident, DailyIncidents, MAX_DAILY, MAX_DAILY_NAMES, RuleCount};
pub use error::{LedgerError, ReadError};
pub use event::{Event, MAX_EVENT_BYTES};
pub use ids::Ids;
pub use incidents::{INCIDENT_CAPACITY, INCIDENT_WINDOW, IncidentId, Incidents, NEWS_CAPACITY, News, Standing};
pub use inventory::{MAX_CLIENTS, MAX_PATHS_PER_HOST, MAX_PROTOCOLS, MAX_SERVERS, MAX_TOOLS, NewName, ServerRecord, ServerStatus};
pub use ledger::{Closed, Ledger, Writer};
pub use lock::is_written;
pub use options::{JsonlTarget, LedgerOptions, MAX_COMMIT_EVERY, MIN_DATABASE_BYTES};
pub use queue::{DropCounts, DropReason, Recorded};
pub use reader::{EventFilter, Follow, Found, IncidentRecord, MAX_PAGE, Order, Reader, StoredEvent};
pub use reviews::{
    DecidedBy, Decision, Journal, JournalError, MAX_JOURNAL_BYTES, MAX_REVIEW_TEXT, NamedServer, NoServer, ReviewedServer, conditions_on,
    journal_in,
};
pub use story::{MIN_ID_PREFIX, More, Related, Relation, STORY_AFTER_MS, STORY_BEFORE_MS, STORY_EVENTS, Story};
pub use usage::{DayUsage, MAX_REPORT_NAMES, Tally, Usage};
pub use verdict::{Verdict, VerdictKind, verdicts};
pub use volume::{MAX_VOLUME_PAIRS, VOLUME_HISTORY_HOURS, VOLUME_MIN_HISTORY_HOURS};
