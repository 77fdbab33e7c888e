//! The bounded queue between many recorders and the one writer. A push is a short lock; the writer
//! takes everything at once by swapping vectors, so the queue costs no allocation per event.

use crate::Event;
use std::{
    mem,
    num::NonZeroUsize,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;

/// Why an event is not in the ledger. The words are label values of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The queue was full: the writer or its disk is too slow.
    QueueFull,
    /// The event was larger than [`crate::MAX_EVENT_BYTES`] even after shortening.
    TooLarge,
    /// The database took it, the JSON-lines target did not.
    JsonlFailed,
    /// The database did not take it.
    DatabaseFailed,
    /// The writer has stopped.
    Closed,
}

impl DropReason {
    /// All of them.
    pub const ALL: [DropReason; 5] =
        [DropReason::QueueFull, DropReason::TooLarge, DropReason::JsonlFailed, DropReason::DatabaseFailed, DropReason::Closed];
    /// The word used in metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DropReason::QueueFull => "queue_full",
            DropReason::TooLarge => "too_large",
            DropReason::JsonlFailed => "jsonl_failed",
            DropReason::DatabaseFailed => "database_failed",
            DropReason::Closed => "closed",
        }
    }
}

/// What became of an event at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Recorded {
    /// It waits for the writer.
    Queued,
    /// It is lost, and counted.
    Dropped(DropReason),
}

/// How many events were lost, by reason. Each lost event is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCounts([u64; DropReason::ALL.len()]);

impl DropCounts {
    /// How many for this reason.
    #[must_use]
    pub const fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }
    /// How many in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
    /// Every reason with its count, zeroes included.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().map(|reason| (reason, self.of(reason)))
    }
}

/// Whether the queue takes events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Shut,
}

struct Inner {
    events: Vec<Event>,
    accepted: u64,
    door: Door,
}

/// What the writer took.
pub(crate) struct Taken {
    pub(crate) events: Vec<Event>,
    /// No event will follow.
    pub(crate) last: bool,
}

pub(crate) struct Queue {
    inner: Mutex<Inner>,
    capacity: usize,
    dropped: [AtomicU64; DropReason::ALL.len()],
    /// The queue is no longer empty.
    arrived: Notify,
    /// The writer should not wait for more.
    hurry: Notify,
}

impl Queue {
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        Self {
            inner: Mutex::new(Inner { events: Vec::new(), accepted: 0, door: Door::Open }),
            capacity: capacity.get(),
            dropped: Default::default(),
            arrived: Notify::new(),
            hurry: Notify::new(),
        }
    }

    // A panic cannot leave the vector half changed, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, event: Event) -> Recorded {
        let waiting = {
            let mut inner = self.lock();
            if inner.door == Door::Shut {
                drop(inner);
                return self.lose(DropReason::Closed);
            }
            if inner.events.len() >= self.capacity {
                drop(inner);
                return self.lose(DropReason::QueueFull);
            }
            inner.events.push(event);
            inner.accepted += 1;
            inner.events.len()
        };
        // Two wake-ups per group, not one per event.
        if waiting == 1 {
            self.arrived.notify_one();
        }
        if waiting == self.capacity.div_ceil(2) {
            self.hurry.notify_one();
        }
        Recorded::Queued
    }

    fn lose(&self, reason: DropReason) -> Recorded {
        self.count_lost(reason, 1);
        Recorded::Dropped(reason)
    }

    pub(crate) fn count_lost(&self, reason: DropReason, events: u64) {
        self.dropped[reason as usize].fetch_add(events, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self) -> DropCounts {
        DropCounts(DropReason::ALL.map(|reason| self.dropped[reason as usize].load(Ordering::Relaxed)))
    }

    /// How many events were ever let in.
    pub(crate) fn accepted(&self) -> u64 {
        self.lock().accepted
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().events.len()
    }

    /// Lets nothing more in; what is in stays for the writer.
    pub(crate) fn shut(&self) {
        self.lock().door = Door::Shut;
        self.arrived.notify_one();
        self.hurry.notify_one();
    }

    /// Asks the writer not to wait for more.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Waits until there is something to take.
    pub(crate) async fn arrived(&self) {
        loop {
            {
                let inner = self.lock();
                if !inner.events.is_empty() || inner.door == Door::Shut {
                    return;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Waits until the writer is asked to hurry.
    pub(crate) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// Takes everything, leaving `spare` (emptied) for the next events.
    pub(crate) fn take(&self, mut spare: Vec<Event>) -> Taken {
        spare.clear();
        let mut inner = self.lock();
        mem::swap(&mut inner.events, &mut spare);
        Taken { events: spare, last: inner.door == Door::Shut }
    }
}
