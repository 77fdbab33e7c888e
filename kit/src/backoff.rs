//! Waits between attempts that fail.
//!
//! Written by hand, where the crate `backon` would do: that retries one future until it succeeds, while what waits here are loops that live
//! as long as the process, count and tell each failure and are woken meanwhile. Of a back-off they need these thirty lines.

use std::time::Duration;

/// Waits after each failure in a row: the first wait, then twice as long each time, up to the longest.
///
/// There is no jitter in it: most waits here are for something on the same host. A caller that waits for a server shared by many hosts adds
/// it.
///
/// ```
/// use gnomon_kit::Backoff;
/// use std::time::Duration;
///
/// let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(3));
/// assert_eq!([backoff.failed(), backoff.failed(), backoff.failed()].map(|wait| wait.as_secs()), [1, 2, 3]);
/// backoff.reset();
/// assert_eq!(backoff.wait(), Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    wait: Duration,
}

impl Backoff {
    /// Starts without a failure.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, wait: first }
    }

    /// The wait after the next failure.
    #[must_use]
    pub const fn wait(&self) -> Duration {
        self.wait
    }

    /// Counts one more failure; the wait before the next attempt.
    pub fn failed(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = wait.saturating_mul(2).min(self.longest);
        wait
    }

    /// Resets the waits after a success.
    pub const fn reset(&mut self) {
        self.wait = self.first;
    }
}
