//! Which thread asks a server.
//!
//! Connections to servers are kept apart for each thread that serves clients, so that what a request needs happens on one thread.
//! Whoever starts such threads gives each its number.

use std::{cell::Cell, num::NonZeroUsize, sync::LazyLock, thread};

/// Most threads, however many processors there are: connections to servers are kept for each.
const MOST: usize = 16;

static SERVING: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST));

thread_local! {
    static LANE: Cell<usize> = const { Cell::new(0) };
}

/// How many values [`lane`] has: one for each thread that serves, of which there is one for each processor and 16 at most, and one
/// for all others.
#[must_use]
pub fn lanes() -> usize {
    *SERVING + 1
}

/// Which of the threads that serve this is, from 1; any other thread is 0.
#[must_use]
pub fn lane() -> usize {
    LANE.get()
}

/// Makes this thread the one of that number, below [`lanes`].
pub fn enter(lane: usize) {
    LANE.set(lane);
}
