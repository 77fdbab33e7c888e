//! The analyst's commands: events and their stories, the inventory, reviews of
//! servers, the week on one page, rules and exceptions, verdicts.
//!
//! They read the ledger and the rules, and write people's decisions; none of them serves, needs root or uses the network. Each
//! declares its arguments, so that what a flag means stands beside what it does.
#![deny(missing_docs)]

mod events;
mod inventory;
mod local;
mod meant;
mod report;
mod review;
mod rules;
mod scaffold;
mod stored;
mod triage;

pub use events::Events;
pub use inventory::Inventory;
pub use local::Local;
pub use report::Report;
pub use review::Review;
pub use rules::{Rules, runbook::runbook};
pub use triage::Triage;
