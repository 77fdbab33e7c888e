//! Options of the ledger: place, amount, retention, intervals.

use gnomon_ledger_model::Keep;
use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

/// The longest that events may wait for company before they are committed.
pub const MAX_COMMIT_EVERY: Duration = Duration::from_millis(200);

/// The destination of JSON lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JsonlTarget {
    /// Nowhere: the database only.
    #[default]
    None,
    /// Appended to this file (mode 0640). It is rotated so that it and its predecessors, `.1` to `.7`, keep within
    /// [`LedgerOptions::max_bytes`] and [`LedgerOptions::retention`]; others may rotate it too, by renaming or truncating.
    File(PathBuf),
    /// To standard output, for containers. Not waited for: acknowledgement rests on the database. Up to 8 MiB wait for whoever reads; lines
    /// beyond that are left out, and counted as [`crate::DropReason::JsonlFailed`].
    Stdout,
}

/// Options of the ledger.
#[derive(Clone, Debug)]
pub struct LedgerOptions {
    /// The database, `STATE/ledger.sqlite`. Its folder also holds `ledger.lock`, `ledger.clock`: what is known of the time over
    /// restarts, and `ledger.lost`: how many events were lost and not told of.
    pub path: PathBuf,
    /// The destination of JSON lines.
    pub jsonl: JsonlTarget,
    /// The most events that may wait for the writer; more are dropped and counted. Default 8,192. Their lines are bounded too, to 64 MiB.
    /// One user or address has at most three quarters of either bound, one connection a half.
    pub queue: NonZeroUsize,
    /// Size bound of the database file in bytes, default 2 GiB, at least [`crate::MIN_DATABASE_BYTES`].
    /// Beyond it the oldest events are deleted. The write-ahead log stands beside it and has its
    /// own bound of 64 MiB.
    pub max_bytes: u64,
    /// Retention of events, default 30 days.
    pub retention: Duration,
    /// The time for which the first event of a group waits for more. Default and maximum [`MAX_COMMIT_EVERY`].
    pub commit_every: Duration,
}

impl LedgerOptions {
    /// The defaults for a database at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            jsonl: JsonlTarget::None,
            queue: NonZeroUsize::new(8192).unwrap_or(NonZeroUsize::MIN),
            max_bytes: 2 << 30,
            retention: Duration::from_secs(30 * 24 * 60 * 60),
            commit_every: MAX_COMMIT_EVERY,
        }
    }

    /// The retention.
    pub(crate) fn keep(&self) -> Keep {
        Keep { max_bytes: self.max_bytes, retention: self.retention }
    }
}
