//! One bounded way to serve HTTP, for all of our listeners: the explicit proxy, redirected connections, portals, metrics.
//!
//! A connection goes through the same stages wherever it comes in: **accept**, **seat** (so many in all, so many for each address;
//! a silent one gives its seat up, and until its first request's head is whole each is), **serve** (a head has its time), **drain** once it is to end, **cut off** what is left after the
//! deadline, **join** it. Each stage is a piece of its own, as their users differ in the middle: the proxy asks whose a connection is
//! before it serves it, a portal places it on a thread. [`Plain`] is all of them in a row, for who needs nothing between.
//!
//! A connection speaks HTTP/1 ([`http1`]), HTTP/2 ([`http2`]) or what its client begins with ([`either`]), within the same bounds whoever
//! serves it. Numbers (limits, times) are the users'. Their metrics are counted where they turn a client away
//! ([`Admission::turn_away`]).

mod accept;
mod drive;
mod head;
mod plain;
mod seated;
mod stalled;
mod tasks;
mod windows;

pub use accept::{Accepting, Admission, accept_until, listen};
pub use drive::{Ended, until_stopped};
pub use head::HeadTimer;
pub use plain::Plain;
pub use seated::{Answered, Heard, Seated, UnderWay};
pub use stalled::Stalled;
pub use tasks::{Tasks, drain};
pub use windows::{ClientWindows, Windows};

use hyper::server::conn::{http1, http2};
use hyper_util::{rt::TokioTimer, server::conn::auto};
use std::time::Duration;

/// The time in which a client must take something of an answer that it asked for, unless its listener has its own.
pub const UNREAD: Duration = Duration::from_secs(300);
/// Most bytes of a request's headers on HTTP/2.
const HEADER_LIST: u32 = 64 << 10;
/// The interval at which HTTP/2 clients are asked for a sign of life. One that gives none for 20 s (hyper's default) is gone.
const ALIVE: Duration = Duration::from_secs(60);

/// Bounds a builder of HTTP/1, of which there are two types.
macro_rules! bounded_http1 {
    ($builder:expr, $head:expr) => {
        $builder.timer(HeadTimer::default()).header_read_timeout($head).max_buf_size(crate::HTTP1_BUFFER)
    };
}

/// The same of HTTP/2.
macro_rules! bounded_http2 {
    ($builder:expr, $windows:expr) => {
        $builder
            .timer(TokioTimer::new())
            .initial_stream_window_size($windows.stream)
            .initial_connection_window_size($windows.connection)
            .max_concurrent_streams($windows.streams)
            .max_header_list_size(HEADER_LIST)
            .keep_alive_interval(Some(ALIVE))
    };
}

/// HTTP/1 for one connection, whose requests' heads may each take so long, idle time before it included, 64 KiB, and 100 fields unless
/// more are set (hyper's default).
#[must_use]
pub fn http1(head: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    bounded_http1!(builder, head);
    builder
}

/// HTTP/2 for one connection: its windows and streams, 64 KiB for the headers of a request, a sign of life each minute.
#[must_use]
pub fn http2<E: Clone>(executor: E, windows: &Windows) -> http2::Builder<E> {
    let mut builder = http2::Builder::new(executor);
    bounded_http2!(builder, windows);
    builder
}

/// [`http1`] or [`http2`], as the client begins.
#[must_use]
pub fn either<E: Clone>(executor: E, head: Duration, windows: &Windows) -> auto::Builder<E> {
    let mut builder = auto::Builder::new(executor);
    bounded_http1!(builder.http1(), head);
    bounded_http2!(builder.http2(), windows);
    builder
}
