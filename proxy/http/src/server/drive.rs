//! Cheap waiting for the end of a connection, and for its server's stop.
//!
//! A connection is polled several times for each request. Asking a shared channel each time whether all is to stop would take a lock
//! that all connections share.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};
use tokio::sync::watch;

/// The reason that waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The connection ended.
    Connection,
    /// The connection is to stop.
    Stopping,
}

/// Drives a connection until it ends or `stop` is true. A dropped sender counts as true.
pub async fn until_stopped<C: Future>(mut connection: Pin<&mut C>, stop: &mut watch::Receiver<bool>) -> Ended {
    let glance = stop.clone();
    let mut stopping = pin!(stop.wait_for(|stopping| *stopping));
    let mut registered = Registered::default();
    poll_fn(|context| {
        if connection.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ended::Connection);
        }
        if registered.is(context) && !glance.has_changed().unwrap_or(true) {
            return Poll::Pending;
        }
        registered.now(context);
        stopping.as_mut().poll(context).map(|_| Ended::Stopping)
    })
    .await
}

/// The waker that was registered last: registering twice is what costs.
#[derive(Debug, Default)]
pub(super) struct Registered(Option<Waker>);

impl Registered {
    pub(super) fn is(&self, context: &Context<'_>) -> bool {
        self.0.as_ref().is_some_and(|waker| waker.will_wake(context.waker()))
    }

    pub(super) fn now(&mut self, context: &Context<'_>) {
        self.0 = Some(context.waker().clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_ends_the_waiting_whenever_it_comes() {
        let (stop, mut stopping) = watch::channel(false);
        let mut never = pin!(std::future::pending::<()>());
        let waiting = async { until_stopped(never.as_mut(), &mut stopping).await };
        let (ended, ()) = tokio::join!(waiting, async {
            tokio::task::yield_now().await;
            let _ = stop.send(true);
        });
        assert_eq!(ended, Ended::Stopping);
        let mut late = stop.subscribe();
        assert_eq!(until_stopped(never.as_mut(), &mut late).await, Ended::Stopping);
        let mut done = pin!(async {});
        assert_eq!(until_stopped(done.as_mut(), &mut late).await, Ended::Connection);
    }
}
