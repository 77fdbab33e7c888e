//! The sanctioned portal: every MCP server that a caller may use, behind one URL.
//!
//! Clients and servers of both protocol eras meet here. A request is read as far as its envelope and the
//! names in it, finds its server, and is passed on with its payload as it came; so is the answer. Where
//! the two sides are of different eras, what one asks is put into the other's words, or refused with a
//! reason. How a server is reached, and which of its entries can be offered at all, is in `gnomon-upstream`.
//!
//! The bias: **one server's trouble is never another's**. Lists are answered from what was fetched last,
//! calls to a server that is known to be gone fail at once, and clients are told what is missing.
//!
//! What an attacker controls: clients every byte of a request, servers every byte of an answer and when it
//! comes. Sessions belong to the caller who began them, their ids say nothing, and every table, queue and
//! message is bounded.
#![deny(missing_docs)]

mod act;
mod acts;
mod attested;
mod call;
mod clients;
mod codemode;
mod cors;
mod crew;
mod emission;
mod error;
mod fetch;
mod front;
mod gate;
mod given;
mod hearing;
mod held;
mod identifiers;
mod judged;
mod labels;
mod legacy;
mod lent;
mod lists;
mod log_in;
mod metrics;
mod modern;
mod names;
mod noted;
mod offer;
mod omitted;
mod outflow;
mod own;
mod parked;
mod portal;
mod progress;
mod questions;
mod reachable;
mod results;
mod road;
mod room;
mod route;
mod serve;
mod server_metrics;
mod session;
mod sessions;
mod shared;
mod shares;
mod sight;
mod site;
mod taken_back;
mod tasks;
mod telling;
mod told;
mod under;
mod unsent;
mod view;
mod watched;

pub use acts::{Acts, Durability, Payloads};
pub use codemode::CodeModeWorks;
pub use crew::Crew;
pub use fetch::Fetcher;
pub use judged::Rules;
pub use labels::{LONGEST_ALIAS, Label, Labels};
pub use metrics::PortalMetrics;
pub use names::Prefix;
pub use offer::CodeMode;
pub use outflow::Outflow;
pub use portal::{Portal, PortalOptions};
pub use serve::{Listening, PortalError};
pub use sessions::SessionLimits;
