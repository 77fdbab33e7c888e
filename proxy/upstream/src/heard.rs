//! When something last came of what a call waits for: a head, a piece of an answer, a comment in a stream, progress.
//!
//! Whoever reads bytes notes it, whatever the call is; whoever wonders whether a call goes on asks. It goes with the task rather
//! than through every signature in between.

use std::{cell::Cell, time::Instant};

tokio::task_local! {
    static LAST: Cell<Option<Instant>>;
}

/// A call within which what comes is noted.
pub(crate) async fn within<T>(call: impl Future<Output = T>) -> T {
    LAST.scope(Cell::new(None), call).await
}

/// Something came.
pub(crate) fn now() {
    // Outside of calls nobody asks.
    let _ = LAST.try_with(|last| last.set(Some(Instant::now())));
}

/// When something came last.
pub(crate) fn last() -> Option<Instant> {
    LAST.try_with(Cell::get).ok().flatten()
}
