//! The sanctioned portal: every MCP server that a caller may use, behind one URL.
//!
//! Clients and servers of both protocol eras meet here. A request is read as far as its envelope and the
//! names in it, finds its server, and is passed on with its payload as it came; so is the answer. Where
//! the two sides are of different eras, what one asks is put into the other's words, or refused with a
//! reason.
//!
//! The bias: **one server's trouble is never another's**. Lists are answered from what was fetched last,
//! calls to a server that is known to be gone fail at once, and clients are told what is missing.
//!
//! What an attacker controls: clients every byte of a request, servers every byte of an answer and when it
//! comes. Sessions belong to the caller who began them, their ids say nothing, and every table, queue and
//! message is bounded.
#![deny(missing_docs)]

mod acts;
mod attested;
mod call;
pub mod catalogue;
mod clients;
mod codemode;
mod cors;
mod crew;
pub mod era;
mod fetch;
mod front;
mod given;
mod held;
mod judged;
mod kind;
mod labels;
mod lane;
mod left_out;
mod legacy;
mod lent;
pub mod members;
mod metrics;
mod mirror;
mod modern;
mod names;
mod offer;
mod omitted;
mod outflow;
mod own;
mod parked;
mod portal;
mod progress;
mod questions;
mod results;
mod room;
mod route;
pub mod rpc;
mod schema;
mod serve;
mod session;
mod shape;
mod shared;
mod shares;
mod site;
mod standing;
mod task_requests;
mod tasks;
mod told;
mod under;
mod unsent;
pub mod upstream;
mod view;
mod visible;
mod watched;
mod whole;

pub use acts::{Acts, Durability, Payloads};
pub use codemode::CodeModeWorks;
pub use crew::Crew;
pub use fetch::Fetcher;
pub use judged::Rules;
pub use labels::{LONGEST_ALIAS, Label, Labels};
pub use left_out::{LeftOut, Reason};
pub use metrics::PortalMetrics;
pub use names::Prefix;
pub use offer::CodeMode;
pub use outflow::Outflow;
pub use portal::{Portal, PortalOptions};
pub use serve::{Listening, PortalError};
pub use session::SessionLimits;
pub use shape::Fits;
