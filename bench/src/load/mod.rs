//! The load generator: an HTTP client that goes direct or through a CONNECT proxy.

mod closed;
mod connection;
mod crew;
mod transfer;

pub use closed::{Clients, ClosedLoop, Connections, Outcome, Payload, run_closed_loop};
pub use connection::{Connection, Protocol, Route};
pub use crew::Crew;
pub use transfer::{Events, Pace, Transfer, download, listen, upload};
