//! How far clients may be ahead of whoever serves them over HTTP/2.
//!
//! A window that is the sum of its streams' would let one client have sixteen mebibytes of each connection wait unread, and it may have a
//! thousand. So a connection's window is what servers usually give, and the connections beyond the first of an owner get what HTTP/2
//! begins with, and fewer streams. The trade-off: a client whose uploads are not read stops others of its own connection, and no one
//! else's.

use gnomon_shares::{Bounds, Share, Shares};
use std::sync::Arc;

/// The bounds on connections with large windows, in all and of one owner, which leaves some to others.
const LARGE: Bounds = Bounds { all: 128, each: 32, times_free: 1 };

/// The large windows of one listener, or of several together, that are taken.
#[derive(Debug)]
pub struct ClientWindows(Arc<Shares>);

/// The windows of one connection, given back when dropped.
#[derive(Debug)]
pub struct Windows {
    /// The window of the connection, bytes.
    pub connection: u32,
    /// The window of each stream, bytes: unread streams stop no other.
    pub stream: u32,
    /// Most requests at a time.
    pub streams: u32,
    _share: Option<Share>,
}

impl Default for ClientWindows {
    fn default() -> Self {
        Self(Shares::new(LARGE))
    }
}

impl ClientWindows {
    /// The windows of this owner's next connection.
    #[must_use]
    pub fn grant(&self, owner: &Arc<str>) -> Windows {
        match self.0.take(owner) {
            Ok(share) => Windows { connection: 1 << 20, stream: 128 << 10, streams: 128, _share: Some(share) },
            Err(_) => Windows::small(),
        }
    }
}

impl Windows {
    /// The windows that any connection may have: what HTTP/2 begins with (RFC 9113 section 6.9.2).
    #[must_use]
    pub fn small() -> Self {
        Self { connection: 64 << 10, stream: 16 << 10, streams: 16, _share: None }
    }

    /// The same with so many requests at a time, for who serves requests that wait for one another.
    #[must_use]
    pub fn with_streams(self, streams: u32) -> Self {
        Self { streams, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owners_first_connections_have_large_windows_and_what_all_may_have_is_bounded() {
        let windows = ClientWindows::default();
        let of = |owner: &str, count: usize| (0..count).map(|_| windows.grant(&owner.into())).collect::<Vec<_>>();
        let sum = |granted: &[Windows]| granted.iter().map(|windows| u64::from(windows.connection)).sum::<u64>();
        let one = of("one", 1_024);
        assert_eq!((one[31].connection, one[32].connection), (1 << 20, 64 << 10));
        assert_eq!(sum(&one), (32 << 20) + 992 * (64 << 10));
        let others: Vec<_> = (0..512).map(|owner| of(&owner.to_string(), 6)).collect();
        assert_eq!(others[0][0].connection, 1 << 20, "however many one has");
        assert!(sum(&one) + others.iter().map(|granted| sum(granted)).sum::<u64>() <= (128 << 20) + 4_096 * (64 << 10));
        drop((one, others));
        assert_eq!(windows.grant(&"one".into()).connection, 1 << 20);
    }
}
