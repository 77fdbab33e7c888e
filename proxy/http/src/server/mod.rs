//! One bounded way to serve HTTP, for all of our listeners: the explicit proxy, redirected connections, portals, metrics.
//!
//! A connection goes through the same stages wherever it comes in: **accept**, **seat** (so many in all, so many for each address;
//! a silent one gives its seat up, and until its first request's head is whole each is), **serve** (a head has its time), **drain** once it is to end, **cut off** what is left after the
//! deadline, **join** it. Each stage is a piece of its own, as their users differ in the middle: the proxy asks whose a connection is
//! before it serves it, a portal places it on a thread. [`Plain`] is all of them in a row, for who needs nothing between.
//!
//! Numbers (limits, times) are the users'. Their metrics are counted where they turn a client away
//! ([`Admission::turn_away`]).

mod accept;
mod drive;
mod head;
mod plain;
mod seated;
mod stalled;
mod tasks;

pub use accept::{Accepting, Admission, accept_until, listen};
pub use drive::{Ended, until_stopped};
pub use head::HeadTimer;
pub use plain::Plain;
pub use seated::{Answered, Heard, Seated, UnderWay};
pub use stalled::Stalled;
pub use tasks::{Tasks, drain};

use hyper::server::conn::http1;
use std::time::Duration;

/// HTTP/1 for one connection, whose requests' heads may each take so long, idle time before it included, and 64 KiB.
#[must_use]
pub fn http1(head: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.timer(HeadTimer::default()).header_read_timeout(head).max_buf_size(crate::HTTP1_BUFFER);
    builder
}
