//! Whether a server keeps idle connections open, as far as that was seen (HTTP/1.1).
//!
//! Some servers close a connection right after an answer and do not say so in it. A client that opens a connection for each request
//! never meets that end, and what it asks must not go over a connection that is just about to: it may have been carried out, so
//! it is not sent again. The trade-off: until a server has shown that it keeps connections, which takes a moment, such clients'
//! requests have connections dialled that turn out to have been superfluous.

use std::time::{Duration, Instant};

use crate::ending::Asks;

/// A connection that is open for so long after an answer is kept: servers that close after one do so within milliseconds.
const SHOWS: Duration = Duration::from_millis(20);
/// A server that closes connections that were idle for less is one that closes: who keeps them does so for seconds.
const SOON: Duration = Duration::from_secs(1);
/// How long that is remembered: another server may be there after that.
const REMEMBERED: Duration = Duration::from_secs(180);

/// The behaviour of a server as seen so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Keeping {
    #[default]
    Unknown,
    Keeps,
    /// The server closed a connection, at that time.
    Closes(Instant),
}

impl Keeping {
    /// A connection is open that has been idle for so long.
    pub(crate) fn is_open_after(&mut self, idle: Duration) {
        if idle >= SHOWS && !self.is_to_be_remembered() {
            *self = Self::Keeps;
        }
    }

    /// The server closed one that had been idle for so long.
    pub(crate) fn closed_after(&mut self, idle: Duration) {
        if idle < SOON {
            *self = Self::Closes(Instant::now());
        }
    }

    /// Whether connections that carried a request may carry this one.
    pub(crate) fn allows(&self, asks: Asks) -> bool {
        asks == Asks::Again || matches!(self, Self::Keeps)
    }

    /// True if it is worth remembering while there is no connection.
    pub(crate) fn is_to_be_remembered(&self) -> bool {
        matches!(self, Self::Closes(when) if when.elapsed() < REMEMBERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_connections_has_shown_it_and_one_end_too_soon_counts_for_more() {
        let mut keeping = Keeping::default();
        assert!(keeping.allows(Asks::Again));
        keeping.is_open_after(SHOWS / 2);
        assert!(!keeping.allows(Asks::First));
        keeping.is_open_after(SHOWS);
        keeping.closed_after(SOON);
        assert!(keeping.allows(Asks::First));
        keeping.closed_after(SOON / 2);
        keeping.is_open_after(SHOWS);
        assert!(!keeping.allows(Asks::First) && keeping.allows(Asks::Again));
        let mut before = Keeping::Closes(Instant::now().checked_sub(REMEMBERED).unwrap());
        before.is_open_after(SHOWS);
        assert!(before.allows(Asks::First));
    }
}
