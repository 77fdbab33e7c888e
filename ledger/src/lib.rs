//! A durable store of events, the inventory of servers, and incidents.
//!
//! [`Ledger::record`] writes an event's line, once, and never waits for the disk; one writer thread puts
//! it into the SQLite database, many events per transaction, and another the same bytes into the JSON-lines file. [`Reader`] answers questions about the past over its own read-only connection and
//! never holds the writer up. [`Incidents`] says whether a detection is new or a repeat.
//!
//! **The trade-off**: an event is *acknowledged* only when it is in the database's write-ahead log and in the file, if there is one and it
//! answers within a second, and both were fsynced. The database waits for no lines, least of all for whoever reads them on standard output.
//! That costs two fsyncs, so events wait up to
//! [`LedgerOptions::commit_every`] for company, and the request path does not wait at all: when the
//! bounded queue is full an event is dropped and counted by reason. A kill -9 loses nothing
//! acknowledged. An event that was *not yet* acknowledged may be found in one of the two and not in the
//! other; `event.id` tells doubles apart.
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
//! It judges nothing, knows no metrics library (it exposes counts) and no wire format but JSON. What an event, the inventory or
//! a story is, is said in `gnomon-ledger-model`, whose types are given on here; SQL is in `gnomon-ledger-sqlite`, so that another
//! database can join behind the same traits.
#![deny(missing_docs)]

mod counts;
mod decided;
mod error;
mod fair;
mod jsonl;
mod ledger;
mod lines;
mod lock;
mod losses;
mod missing;
mod options;
mod queue;
mod reader;
mod unusual;
mod waiting;
mod writer;

pub use counts::LedgerCounts;
pub use decided::{
    Decided, DecidedError, FileError, Following, KeptSnippet, Looked, MAX_REVIEWS_BYTES, ProposalError, Proposed, Recalled,
    RecalledVerdicts, journal_in, reviews_in, verdicts_in,
};
pub use error::LedgerError;
pub use gnomon_ledger_model::{
    Comparison, Condition, ConditionError, Contact, DailyIncident, DailyIncidents, DayUsage, DecidedBy, Decision, DecisionError, Detection,
    Event, EventFilter, FirstSeen, Forgotten, Found, HostPort, INCIDENT_CAPACITY, INCIDENT_WINDOW, Ids, IncidentId, IncidentRecord,
    IncidentRole, Incidents, LOCAL_FILE, LOCAL_PACKAGE, MAX_CLIENTS, MAX_DAILY, MAX_DAILY_NAMES, MAX_EVENT_BYTES, MAX_PAGE,
    MAX_PATHS_PER_HOST, MAX_PROTOCOLS, MAX_REPORT_NAMES, MAX_REVIEW_TEXT, MAX_SERVERS, MAX_SHOWN, MAX_SHOWN_OF_ONE, MAX_SNIPPET_CODE,
    MAX_SNIPPET_DESCRIPTION, MAX_SNIPPET_NAME, MAX_SNIPPET_PARAMETERS, MAX_TOOLS, MAX_USERS, MAX_VOLUME_PAIRS, MIN_ID_PREFIX, More,
    NamedServer, NewName, NoAudience, NoServer, OpenError, Order, Questions, ReadError, Related, Relation, ReviewEntry, ReviewedServer,
    RuleCount, STORY_AFTER_MS, STORY_BEFORE_MS, STORY_EVENTS, ServerRecord, ServerStatus, ShownIncident, Snippet, SnippetAudience,
    SnippetDecision, StoredEvent, Story, Tally, Today, Usage, VOLUME_HISTORY_HOURS, VOLUME_MIN_HISTORY_HOURS, Verdict, VerdictKind,
    Withdrawal, conditions_on, plain_name, this_host,
};
pub use gnomon_ledger_postgres::{PostgresUrl, PostgresUrlError, Standby};
pub use gnomon_ledger_sqlite::MIN_DATABASE_BYTES;
pub use ledger::{Closed, Ledger, Writer};
pub use lock::is_written;
pub use options::{JsonlTarget, LedgerOptions, MAX_COMMIT_EVERY};
pub use queue::{DropCounts, DropReason, Recorded};
pub use reader::{Follow, Reader};
