//! What is known of the call that this task is at: when something last came of it (a head, a piece of an answer, a comment in a
//! stream, progress), whether it left, and its place among those that are under way.
//!
//! Readers of bytes note the time, whatever the call is; timeouts compare it. It is task-local rather than a parameter of every function in
//! between.

use crate::{carried::Sent, error::UpstreamError, work::Work};
use gnomon_shares::Share;
use smol_str::SmolStr;
use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::Instant,
};

/// Who wants to be told, within a call, what its server logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listener {
    /// This caller, who is proven to be it. What one of its calls may hear, its others may.
    Proven(SmolStr),
    /// Somebody, of whom nothing is proven: no other call is known to be theirs.
    Somebody,
}

struct Heard {
    last: Cell<Option<Instant>>,
    sent: Cell<Sent>,
    place: Cell<Option<Share>>,
    /// Its caller, by whose share it has that place.
    owner: Arc<str>,
    /// Its caller, where they want to be told what its server logs.
    listener: RefCell<Option<Listener>>,
    /// The calls in progress at its server.
    work: Arc<Work>,
}

tokio::task_local! {
    static CALL: Heard;
}

/// A call that has this place, and whether it left by its end.
pub(crate) async fn within<T>(place: Share, work: Arc<Work>, call: impl Future<Output = T>) -> (T, Sent) {
    let (last, sent, listener, owner) = (Cell::new(None), Cell::new(Sent::No), RefCell::default(), place.principal().clone());
    let heard = Heard { last, sent, place: Cell::new(Some(place)), owner, listener, work };
    let call = async {
        let done = call.await;
        (done, CALL.with(|call| call.sent.get()))
    };
    CALL.scope(heard, call).await
}

/// The client of the call that this is part of wants to be told what its server logs.
pub fn hears_logs(listener: Listener) {
    let _ = CALL.try_with(|call| call.listener.replace(Some(listener)));
}

/// Whoever does.
pub(crate) fn listener() -> Option<Listener> {
    CALL.try_with(|call| call.listener.borrow().clone()).ok().flatten()
}

/// Whether a request of this method is the call, rather than something that is asked ahead of it.
fn is_it(method: &str) -> bool {
    !matches!(method, "logging/setLevel" | "ping")
}

/// The caller of the call that this is part of.
pub(crate) fn owner() -> Option<Arc<str>> {
    CALL.try_with(|call| call.owner.clone()).ok()
}

/// Whether this is part of a call.
pub(crate) fn is_call() -> bool {
    CALL.try_with(|_| ()).is_ok()
}

/// The call may leave now.
pub(crate) fn leaves(method: &str) {
    if is_it(method) {
        let _ = CALL.try_with(|call| call.sent.set(Sent::Yes));
    }
}

/// What comes of sending the call's message once. Where no connection came about it has not left, unless it had before.
pub(crate) async fn sending<T>(method: &str, send: impl Future<Output = Result<T, UpstreamError>>) -> Result<T, UpstreamError> {
    let before = CALL.try_with(|call| call.sent.get()).unwrap_or(Sent::No);
    leaves(method);
    let sent = send.await;
    if let Err(UpstreamError::Unreachable { .. }) = sent {
        let _ = CALL.try_with(|call| call.sent.set(before));
    }
    sent
}

/// Something came.
pub(crate) fn now() {
    // Outside of calls nobody asks.
    let _ = CALL.try_with(|call| {
        call.last.set(Some(Instant::now()));
        call.work.lives();
    });
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
