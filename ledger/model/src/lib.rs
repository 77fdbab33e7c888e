//! The ledger's data and questions: events, the inventory of servers, incidents, stories, usage, volume, decisions and verdicts.
//! No database and no file: [`Store`] and [`LedgerReader`] are implemented by engines, which are the crates beside this one.
//!
//! **The decision**: an engine keeps and finds rows, and nothing else. A [`Group`] carries what its events change, summed up where
//! they are recorded; [`Questions`] makes answers of rows. So two engines cannot differ in what is an incident, whose the
//! volume is or what belongs to a story, and what they must agree on is small enough to be tested (`ledger/contract`).
//!
//! ```
//! use gnomon_ledger_model::{Condition, Operand};
//!
//! let condition: Condition = "server.address=*.example.com".parse()?;
//! let Operand::Pattern(pattern) = condition.operand() else { panic!("it has a star") };
//! assert!(pattern.matches("mcp.example.com") && !pattern.matches("MCP.EXAMPLE.COM"));
//! # Ok::<(), gnomon_ledger_model::ConditionError>(())
//! ```
#![deny(missing_docs)]

mod condition;
mod daily;
mod decisions;
mod deltas;
mod encode;
mod error;
mod event;
mod filter;
mod group;
mod hostport;
mod ids;
mod incidents;
mod inventory;
mod once;
mod pattern;
mod questions;
mod reviews;
mod seen;
mod snippets;
mod store;
mod story;
mod today;
mod usage;
mod verdict;
pub mod volume;

pub use condition::{Comparison, Condition, ConditionError, Operand};
pub use daily::{DailyIncident, DailyIncidents, MAX_DAILY, MAX_DAILY_NAMES, RuleCount};
pub use decisions::{DecisionEntry, DecisionError, Decisions, KeptEntry, Origin, ReviewEntry, Topic, Withdrawal, import, import_new};
pub use deltas::{About, Deltas, IncidentDelta, ServerDelta, ServerKey};
pub use encode::{MAX_EVENT_BYTES, moment, this_host};
pub use error::{Cause, OpenError, ReadError, StoreError};
pub use event::Event;
pub use filter::{EventFilter, IncidentRecord, MAX_PAGE, Order, StoredEvent};
pub use group::{Group, MAX_GROUP_BYTES, MAX_GROUP_EVENTS, Row};
pub use hostport::HostPort;
pub use ids::{Ids, MIN_ID_PREFIX};
pub use incidents::{INCIDENT_CAPACITY, INCIDENT_WINDOW, IncidentId, IncidentRole, Incidents};
pub use inventory::{
    Contact, FirstSeen, LOCAL_FILE, LOCAL_PACKAGE, MAX_CLIENTS, MAX_LISTENS, MAX_PATHS_PER_HOST, MAX_PROTOCOLS, MAX_SERVERS, MAX_TOOLS,
    MAX_USERS, NewName, ServerRecord, ServerStatus,
};
pub use once::Once;
pub use pattern::{Pattern, PatternPart};
pub use questions::{Found, Questions};
pub use reviews::{DecidedBy, Decision, MAX_REVIEW_TEXT, NamedServer, NoServer, ReviewedServer, conditions_on};
pub use snippets::{
    ForgottenSnippet, MAX_SNIPPET_CODE, MAX_SNIPPET_DESCRIPTION, MAX_SNIPPET_NAME, MAX_SNIPPET_PARAMETERS, NoAudience, Snippet,
    SnippetAudience, SnippetDecision, SnippetEntry, plain_name,
};
pub use store::{Asked, Forgotten, Keep, LedgerReader, Store, Stored};
pub use story::{
    IdPrefix, More, NEAR_EVENTS, Names, OUTCOME_EVENTS, Related, Relation, STORY_AFTER_MS, STORY_BEFORE_MS, STORY_EVENTS, Story,
};
pub use today::{Detection, MAX_SHOWN, MAX_SHOWN_OF_ONE, ShownIncident, Today};
pub use usage::{DayUsage, MAX_REPORT_NAMES, Tally, Usage};
pub use verdict::{Verdict, VerdictKind};
pub use volume::{MAX_VOLUME_PAIRS, VOLUME_HISTORY_HOURS, VOLUME_MIN_HISTORY_HOURS};
