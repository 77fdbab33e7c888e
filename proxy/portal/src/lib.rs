//! The sanctioned portal: every MCP server that a caller may use, behind one URL.
//!
//! Clients and servers of both protocol eras meet here. A request is read as far as its envelope and the
//! names in it, finds its server, and is passed on with its payload as it came; so is the answer. Where
//! the two sides are of different eras, what one asks is put into the other's words, or refused with a
//! reason. How a server is reached, and which of its entries can be offered at all, is in `gnomon-upstream`.
//!
//! The bias: **one server's trouble is never another's**. Lists are answered from what was fetched last,
//! calls to a server that is known to be gone fail at once, and clients learn what is missing.
//!
//! Clients control every byte of a request, servers every byte of an answer and when it
//! comes. Sessions belong to the caller who began them, their ids say nothing, and every table, queue and
//! message is bounded.
#![deny(missing_docs)]

mod answering;
mod attested;
mod clients;
mod cors;
mod crew;
mod fetch;
mod front;
mod legacy;
mod log_in;
mod modern;
mod own;
mod portal;
mod request_body;
mod responses;
mod results;
mod road;
mod serve;
mod site;

pub use crew::Crew;
pub use fetch::Fetcher;
pub use gnomon_lists::labels::{LONGEST_ALIAS, Label, Labels};
pub use gnomon_relay::{
    acts::{Acts, Durability, Payloads},
    judged::Rules,
    metrics::PortalMetrics,
    names::Prefix,
    offer::{CodeMode, Snippets},
    outflow::Outflow,
    sessions::SessionLimits,
};
pub use gnomon_scripts::{CodeModeWorks, SERVER as SNIPPETS, Shelf};
pub use portal::{Parting, Portal, PortalOptions, Registration};
pub use serve::{Listening, PortalError};
