//! What is known of the call that this task is at: when something last came of it (a head, a piece of an answer, a comment in a
//! stream, progress), whether it left, and its place among those that are under way.
//!
//! Whoever reads bytes notes it, whatever the call is; whoever wonders whether a call goes on asks. It goes with the task rather
//! than through every signature in between.

use crate::{carried::Sent, error::UpstreamError};
use gnomon_shares::Share;
use std::{cell::Cell, time::Instant};

struct Heard {
    last: Cell<Option<Instant>>,
    sent: Cell<Sent>,
    place: Cell<Option<Share>>,
}

tokio::task_local! {
    static CALL: Heard;
}

/// A call that has this place, and whether it left by its end.
pub(crate) async fn within<T>(place: Share, call: impl Future<Output = T>) -> (T, Sent) {
    let heard = Heard { last: Cell::new(None), sent: Cell::new(Sent::No), place: Cell::new(Some(place)) };
    let call = async {
        let done = call.await;
        (done, CALL.with(|call| call.sent.get()))
    };
    CALL.scope(heard, call).await
}

/// The call may leave now.
pub(crate) fn leaves() {
    let _ = CALL.try_with(|call| call.sent.set(Sent::Yes));
}

/// What comes of sending the call's message once. Where no connection came about it has not left, unless it had before.
pub(crate) async fn sending<T>(send: impl Future<Output = Result<T, UpstreamError>>) -> Result<T, UpstreamError> {
    let before = CALL.try_with(|call| call.sent.replace(Sent::Yes)).unwrap_or(Sent::No);
    let sent = send.await;
    if let Err(UpstreamError::Unreachable { .. }) = sent {
        let _ = CALL.try_with(|call| call.sent.set(before));
    }
    sent
}

/// Something came.
pub(crate) fn now() {
    // Outside of calls nobody asks.
    let _ = CALL.try_with(|call| call.last.set(Some(Instant::now())));
}

/// When something came last.
pub(crate) fn last() -> Option<Instant> {
    CALL.try_with(|call| call.last.get()).ok().flatten()
}

/// The place of the call that this is part of, which is then kept for longer than the call: what its server is at goes on.
#[must_use]
pub fn take_place() -> Option<Share> {
    CALL.try_with(|call| call.place.take()).ok().flatten()
}
