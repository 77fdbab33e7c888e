//! The bounded queue between many recorders and the one writer. A push is a short lock; the writer
//! takes whole groups and gives them back empty, so the queue costs no allocation per event.

use crate::{
    Event,
    fair::{Amount, Waiting as WaitingOf, Whose},
};
use gnomon_ledger_model::{Group, Once};
use gnomon_observe::Observation;
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::VecDeque,
    hash::RandomState,
    mem,
    num::NonZeroUsize,
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::sync::Notify;

/// The reason that an event is not in the ledger, or its line not written. The words are label values of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The queue was full (events or bytes): the writer or its disk is too slow.
    QueueFull,
    /// The user, address or connection has its share of the queue, and the room that is left is kept for others.
    OverShare,
    /// The event was larger than [`crate::MAX_EVENT_BYTES`] even after shortening.
    TooLarge,
    /// Its line was not written to the JSON-lines target, which failed, hangs or is too slow. The database took the event.
    JsonlFailed,
    /// The database did not take it.
    DatabaseFailed,
    /// The writer has stopped.
    Closed,
}

impl DropReason {
    /// All variants.
    pub const ALL: [DropReason; 6] = [
        DropReason::QueueFull,
        DropReason::OverShare,
        DropReason::TooLarge,
        DropReason::JsonlFailed,
        DropReason::DatabaseFailed,
        DropReason::Closed,
    ];
    /// The word used in metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            DropReason::QueueFull => "queue_full",
            DropReason::OverShare => "over_share",
            DropReason::TooLarge => "too_large",
            DropReason::JsonlFailed => "jsonl_failed",
            DropReason::DatabaseFailed => "database_failed",
            DropReason::Closed => "closed",
        }
    }
}

/// The fate of an event at the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Recorded {
    /// The event waits for the writer.
    Queued,
    /// The event is lost, and counted.
    Dropped(DropReason),
}

/// The number of events lost, by reason. Each lost event is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCounts([u64; DropReason::ALL.len()]);

impl DropCounts {
    /// The number lost for this reason.
    #[must_use]
    pub const fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }
    /// The number lost in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
    /// Every reason with its count, zeroes included.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().map(|reason| (reason, self.of(reason)))
    }
}

/// Open or closed for events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Shut,
}

/// The most bytes of lines that may wait for the writer, whatever the number of events: clients decide how long an event gets.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// Empty groups that are kept for use.
const SPARES: usize = 2;

struct Inner {
    /// Groups that take no more events.
    full: VecDeque<Group>,
    open: Group,
    spares: Vec<Group>,
    /// The calls of events so far: what a rule finds in a late answer is an event of another group, and no other call.
    calls: Once,
    events: usize,
    bytes: usize,
    /// The same, by whose they are.
    waiting: WaitingOf,
    accepted: u64,
    door: Door,
}

/// The state of the queue after an event was added.
struct Waiting {
    /// True if it is the only one in the queue.
    first: bool,
    /// True if it made the queue half full.
    half: bool,
}

impl Inner {
    fn add(&mut self, capacity: usize, whose: Option<Whose>, seen: &Observation, at_ms: i64, line: &[u8]) -> Result<Waiting, DropReason> {
        if self.door == Door::Shut {
            return Err(DropReason::Closed);
        }
        if self.events >= capacity || self.bytes + line.len() > MAX_WAITING_BYTES {
            return Err(DropReason::QueueFull);
        }
        if let Some(whose) = whose {
            let (all, most) = (Amount { events: self.events, bytes: self.bytes }, Amount { events: capacity, bytes: MAX_WAITING_BYTES });
            self.waiting.admit(whose, line.len(), all, most).map_err(|_| DropReason::OverShare)?;
        }
        let half = |inner: &Self| inner.events >= capacity.div_ceil(2) || inner.bytes >= MAX_WAITING_BYTES / 2;
        let was_half = half(self);
        self.open.push(&mut self.calls, seen, at_ms, line);
        self.events += 1;
        self.bytes += line.len();
        self.accepted += 1;
        if self.open.is_full() {
            self.close_group();
        }
        Ok(Waiting { first: self.events == 1, half: !was_half && half(self) })
    }

    fn close_group(&mut self) {
        let next = self.spares.pop().unwrap_or_default();
        self.full.push_back(mem::replace(&mut self.open, next));
    }
}

/// The events that the writer took.
pub(crate) struct Taken {
    pub(crate) groups: VecDeque<Group>,
    /// No event will follow.
    pub(crate) last: bool,
}

pub(crate) struct Queue {
    inner: Mutex<Inner>,
    capacity: usize,
    /// The keys of the hashes that identify principals.
    keys: RandomState,
    dropped: [AtomicU64; DropReason::ALL.len()],
    /// The queue is no longer empty.
    arrived: Notify,
    /// The writer should not wait for more.
    hurry: Notify,
}

impl Queue {
    pub(crate) fn new(capacity: NonZeroUsize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                full: VecDeque::new(),
                open: Group::default(),
                spares: Vec::new(),
                calls: Once::default(),
                events: 0,
                bytes: 0,
                waiting: WaitingOf::default(),
                accepted: 0,
                door: Door::Open,
            }),
            capacity: capacity.get(),
            keys: RandomState::new(),
            dropped: Default::default(),
            arrived: Notify::new(),
            hurry: Notify::new(),
        }
    }

    // A panic under it can at worst leave an event half added to a group, so those that come after it go on.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    pub(crate) fn push(&self, event: Event) -> Recorded {
        let (whose, at_ms) = (Whose::of(event.observation(), &self.keys), event.at_ms());
        // The line is written before the lock is taken.
        let added = event.with_line(|seen, line| self.lock().add(self.capacity, whose, seen, at_ms, line));
        match added {
            Some(Ok(Waiting { first, half })) => {
                // Two wake-ups per group, not one per event.
                if first {
                    self.arrived.notify_one();
                }
                if half {
                    self.hurry.notify_one();
                }
                Recorded::Queued
            }
            Some(Err(reason)) => self.lose(reason),
            None => self.lose(DropReason::TooLarge),
        }
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

    /// The number of events ever let in.
    pub(crate) fn accepted(&self) -> u64 {
        self.lock().accepted
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().events
    }

    pub(crate) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Closes the queue for new events; those in it stay for the writer.
    pub(crate) fn shut(&self) {
        self.lock().door = Door::Shut;
        self.arrived.notify_one();
        self.hurry.notify_one();
    }

    /// Asks the writer to start at once.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Waits until there is something to take.
    pub(crate) async fn arrived(&self) {
        loop {
            {
                let inner = self.lock();
                if inner.events > 0 || inner.door == Door::Shut {
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

    /// Takes all events.
    pub(crate) fn take(&self) -> Taken {
        let mut inner = self.lock();
        if !inner.open.is_empty() {
            inner.close_group();
        }
        (inner.events, inner.bytes) = (0, 0);
        inner.waiting.clear();
        Taken { groups: mem::take(&mut inner.full), last: inner.door == Door::Shut }
    }

    /// Frees memory that only a busy time needed.
    pub(crate) fn cool_down(&self) {
        let mut inner = self.lock();
        if inner.events == 0 {
            let freed = (mem::take(&mut inner.spares), mem::take(&mut inner.open), mem::take(&mut inner.waiting));
            // Freed without the lock.
            drop(inner);
            drop(freed);
        }
    }

    /// Returns a group for reuse.
    pub(crate) fn give_back(&self, mut group: Group) {
        group.clear();
        let mut inner = self.lock();
        if inner.spares.len() < SPARES {
            inner.spares.push(group);
        }
    }
}
