//! What the ledger counts, as numbers: how to expose them is the business of whoever does.

use crate::{DropCounts, ServerStatus};
use std::ops::AddAssign;

/// Entries that were added to the inventory since the ledger was opened, by their status at that moment.
/// One that was removed because the inventory was full counts again when it comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirstSeen {
    /// Servers that the organisation named as allowed.
    pub sanctioned: u64,
    /// All others.
    pub shadow: u64,
}

impl FirstSeen {
    /// Counts a new entry.
    pub(crate) fn add(&mut self, status: ServerStatus) {
        match status {
            ServerStatus::Sanctioned => self.sanctioned += 1,
            ServerStatus::Shadow => self.shadow += 1,
        }
    }
}

impl AddAssign for FirstSeen {
    fn add_assign(&mut self, more: Self) {
        self.sanctioned += more.sanctioned;
        self.shadow += more.shadow;
    }
}

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
