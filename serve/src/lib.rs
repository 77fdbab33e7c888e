//! A running gnomon: the inline proxy, portals, ledger, audit and exports wired together, started in an order in which nothing is
//! announced before it works ([`run`]), and stopped so that no acknowledged event is lost.
//!
//! It reads the configuration once, as it is handed in, and shares out the process's resources (descriptors, links to sensors). Judging,
//! recording and answering are decided in the libraries that it wires; it deliberately parses nothing that a stranger sent.
#![deny(missing_docs)]

mod apart;
pub mod apis;
mod arming;
pub mod auditing;
mod bundle;
mod changes;
pub mod checking;
pub mod descriptors;
mod exporting;
mod hangup;
mod homes;
mod last_rules;
pub mod logging;
mod narrating;
pub mod portals;
mod posting;
pub mod programs;
pub mod reaching;
mod regulated;
mod reloading;
mod reviewing;
mod roads;
mod rule_changes;
mod scoping;
mod serve;
mod serving;
mod signals;
mod starting;
mod stopping;
mod watching;

pub use narrating::Narration;
pub use roads::Parts;
pub use serve::run;
pub use watching::Sensors;
