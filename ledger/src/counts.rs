//! The ledger's counters, as numbers: exposing them is left to the caller.

use crate::{DropCounts, FirstSeen, Forgotten};

/// The counts of a ledger since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerCounts {
    /// Events that are durable.
    pub acknowledged: u64,
    /// Events that were lost.
    pub dropped: DropCounts,
    /// The additions of events to the inventory.
    pub first_seen: FirstSeen,
    /// Events that retention removed.
    pub forgotten: Forgotten,
    /// Events that wait for the writer now.
    pub queued: usize,
    /// The most events that may wait; more are dropped.
    pub capacity: usize,
    /// By how many seconds the system's clock is ahead of the time by which events are too old: negative where it is behind, zero where it is
    /// believed.
    pub clock_ahead_s: i64,
}
