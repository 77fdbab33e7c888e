//! What the ledger counts, as numbers: how to expose them is the business of whoever does.

use crate::{DropCounts, FirstSeen};

/// The counts of a ledger since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerCounts {
    /// Events that are durable.
    pub acknowledged: u64,
    /// Events that were lost.
    pub dropped: DropCounts,
    /// What the events added to the inventory.
    pub first_seen: FirstSeen,
    /// Events that wait for the writer now.
    pub queued: usize,
    /// How many may wait; more are dropped.
    pub capacity: usize,
}
