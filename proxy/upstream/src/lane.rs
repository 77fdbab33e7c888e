//! The thread that sends a request to a server.
//!
//! Connections to servers are kept apart for each thread that serves clients, so that what a request needs happens on one thread.
//! The code that starts such threads numbers them.

use std::{cell::Cell, num::NonZeroUsize, sync::LazyLock, thread};

/// Most threads, however many processors there are: connections to servers are kept for each.
const MOST: usize = 16;

static SERVING: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST));

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(0) };
}

/// The number of values of [`lane`]: one for each thread that serves, of which there is one for each processor and 16 at most, and one
/// for all others.
#[must_use]
pub fn lanes() -> usize {
    *SERVING + 1
}

/// The number of this serving thread, from 1; any other thread is 0.
#[must_use]
pub fn lane() -> usize {
    LANE.get()
}

/// Makes this thread the one of that number, below [`lanes`].
pub fn enter(lane: usize) {
    LANE.set(lane);
}
