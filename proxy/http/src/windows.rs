//! Flow control towards upstreams over HTTP/2: how many bytes they may send ahead of the reader.
//!
//! Flow control has two windows, one for each stream and one for the connection (RFC 9113 section 5.2). Where they are of one
//! size, one answer that is not read stops all others of the connection. So a connection's window is the sum of its streams',
//! which bounds its streams, and what all connections may hold is bounded for each principal: the more it has, the less a
//! further one gets.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes that may be held unread, over all connections …
const OF_ALL: usize = 512 << 20;
/// … or one in so many of those that this process may have …
const PART_OF_LIMIT: u64 = 4;
/// … and one in so many of them over those of one principal.
const OF_ONE: u64 = 2;
/// A new connection gets one in so many of the bytes that are left.
const PART: u64 = 8;
/// Largest window of a stream: at 50 ms to the upstream, 20 MB a second.
const LARGEST: u64 = 1 << 20;
/// Smallest, which HTTP/2 begins with (RFC 9113 section 6.9.2).
const SMALLEST: u64 = 64 << 10;
/// Most requests at a time on one connection; further ones go over another.
const MOST_STREAMS: u64 = 32;
/// Fewest, where few bytes are left. A connection holds 256 KiB then, less than one of HTTP/1.1 may.
const FEWEST_STREAMS: u64 = 4;

/// The bytes granted to each principal.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    granted: Mutex<Granted>,
}

#[derive(Debug, Default)]
struct Granted {
    all: u64,
    by: HashMap<Arc<str>, u64>,
}

/// The windows of one connection. They are given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Windows {
    /// The window of each stream, bytes.
    pub(crate) stream: u32,
    /// Most streams.
    pub(crate) streams: u32,
    ahead: Arc<Ahead>,
    principal: Arc<str>,
}

fn of_all() -> u64 {
    gnomon_memory::part(OF_ALL, PART_OF_LIMIT) as u64
}

impl Ahead {
    /// The windows of a principal's next connection.
    pub(crate) fn grant(self: &Arc<Self>, principal: &Arc<str>) -> Windows {
        let mut granted = self.granted();
        let own = granted.by.get(principal).copied().unwrap_or(0);
        let of_all = of_all();
        let part = (of_all / OF_ONE).saturating_sub(own).min(of_all.saturating_sub(granted.all)) / PART;
        let stream = (part / MOST_STREAMS).clamp(SMALLEST, LARGEST);
        let streams = (part / stream).clamp(FEWEST_STREAMS, MOST_STREAMS);
        granted.all += stream * streams;
        *granted.by.entry(principal.clone()).or_default() += stream * streams;
        // Both are far below 2^31.
        let small = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX >> 1);
        Windows { stream: small(stream), streams: small(streams), ahead: self.clone(), principal: principal.clone() }
    }

    fn granted(&self) -> MutexGuard<'_, Granted> {
        self.granted.lock()
    }
}

impl Windows {
    /// The window of the connection, bytes: the sum of its streams'.
    pub(crate) const fn connection(&self) -> u32 {
        self.stream * self.streams
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        let bytes = u64::from(self.connection());
        let mut granted = self.ahead.granted();
        granted.all = granted.all.saturating_sub(bytes);
        if let Some(own) = granted.by.get_mut(&self.principal) {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                granted.by.remove(&self.principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_connections_are_fast_and_all_together_stay_within_the_principal_s_bytes() {
        let (ahead, principal) = (Arc::new(Ahead::default()), "user".into());
        let granted: Vec<_> = (0..1_000).map(|_| ahead.grant(&principal)).collect();
        assert_eq!((granted[0].stream, granted[0].streams), (1 << 20, 32));
        assert!(granted[10].stream >= 256 << 10 && granted[10].streams == 32);
        assert_eq!((granted[999].stream, granted[999].streams), (64 << 10, 4));
        let sum: u64 = granted.iter().map(|windows| u64::from(windows.connection())).sum();
        assert!(sum <= of_all() / OF_ONE + 1_000 * SMALLEST * FEWEST_STREAMS, "{sum}");
        drop(granted);
        assert!(ahead.granted().by.is_empty() && ahead.granted().all == 0);
        assert_eq!(ahead.grant(&principal).stream, 1 << 20);
    }
}
