//! Records that wait to be written: a bounded queue that a recorder never blocks on.

use crate::store::Columns;
use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, oneshot};

/// The most records that wait.
pub const MAX_WAITING: usize = 8192;
/// The most bytes of records that wait.
pub const MAX_WAITING_BYTES: usize = 32 << 20;

/// The number of a record, or that it was not written.
pub(crate) type Written = Result<u64, ()>;

/// A record on its way.
pub(crate) struct Waiting {
    pub(crate) body: String,
    pub(crate) columns: Columns,
    /// The receiver that waits until the record is durable.
    pub(crate) done: Option<oneshot::Sender<Written>>,
}

#[derive(Default)]
struct Inner {
    waiting: Vec<Waiting>,
    bytes: usize,
    shut: bool,
}

/// The fate of a record at the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Recorded {
    /// The record waits for the writer.
    Queued,
    /// The record is lost: the queue is full, or the writer has ended. The audit will record how many were.
    Lost,
}

/// The records that the writer takes.
pub(crate) struct Taken {
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) shut: bool,
}

#[derive(Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    arrived: Notify,
    /// Notified if a caller waits for durability, or if the queue is shut.
    hurry: Notify,
    lost: AtomicU64,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    pub(crate) fn push(&self, one: Waiting) -> Recorded {
        let mut inner = self.lock();
        if inner.shut || inner.waiting.len() >= MAX_WAITING || inner.bytes + one.body.len() > MAX_WAITING_BYTES {
            drop(inner);
            self.lose(1);
            return Recorded::Lost;
        }
        inner.bytes += one.body.len();
        let hurry = one.done.is_some();
        inner.waiting.push(one);
        drop(inner);
        self.arrived.notify_one();
        if hurry {
            self.hurry.notify_one();
        }
        Recorded::Queued
    }

    pub(crate) fn take(&self) -> Taken {
        let mut inner = self.lock();
        inner.bytes = 0;
        Taken { waiting: std::mem::take(&mut inner.waiting), shut: inner.shut }
    }

    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Waits until the writer is asked to hurry.
    pub(crate) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    pub(crate) fn shut(&self) {
        self.lock().shut = true;
        self.arrived.notify_one();
        self.hurry.notify_one();
    }

    pub(crate) fn lose(&self, records: u64) {
        self.lost.fetch_add(records, Ordering::Relaxed);
    }

    /// The number of records lost in all.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
