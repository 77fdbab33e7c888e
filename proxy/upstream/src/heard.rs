//! State of the call that this task works on: the time of its last sign of life (a head, a piece of an answer, a comment in a stream,
//! progress), and its place among those in progress.
//!
//! Readers of bytes note the time, whatever the call is; timeouts compare it. It is task-local rather than a parameter of every function in
//! between.

use gnomon_shares::Share;
use std::{cell::Cell, time::Instant};

struct Heard {
    last: Cell<Option<Instant>>,
    place: Cell<Option<Share>>,
}

tokio::task_local! {
    static CALL: Heard;
}

/// A call that has this place.
pub(crate) async fn within<T>(place: Share, call: impl Future<Output = T>) -> T {
    CALL.scope(Heard { last: Cell::new(None), place: Cell::new(Some(place)) }, call).await
}

/// Something came.
pub(crate) fn now() {
    // Outside of calls there is nothing to note.
    let _ = CALL.try_with(|call| call.last.set(Some(Instant::now())));
}

/// The time of the last sign of life.
pub(crate) fn last() -> Option<Instant> {
    CALL.try_with(|call| call.last.get()).ok().flatten()
}

/// The place of the call that this is part of, which is then kept for longer than the call: what its server is at goes on.
#[must_use]
pub fn take_place() -> Option<Share> {
    CALL.try_with(|call| call.place.take()).ok().flatten()
}
