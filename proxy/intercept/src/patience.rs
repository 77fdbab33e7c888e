//! Waiting that costs a busy connection next to nothing: for the proxy's stop, and for a request head.
//!
//! A connection is polled several times for each request. Asking a shared channel whether the proxy stops,
//! and a timer of its own for each head, would take locks that all connections share.

use hyper::rt::{Sleep, Timer};
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};
use tokio::sync::watch;

/// Why the waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The connection is over.
    Connection,
    /// The proxy is to stop.
    Stopping,
}

/// Drives a connection until it is over or the proxy is to stop.
pub(crate) async fn until_stopped<C: Future>(mut connection: Pin<&mut C>, stop: &mut watch::Receiver<bool>) -> Ended {
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

/// Which task was told to something that wakes it: being told twice is what costs.
#[derive(Default)]
struct Registered(Option<Waker>);

impl Registered {
    fn is(&self, context: &Context<'_>) -> bool {
        self.0.as_ref().is_some_and(|waker| waker.will_wake(context.waker()))
    }

    fn now(&mut self, context: &Context<'_>) {
        self.0 = Some(context.waker().clone());
    }
}

/// A timer for one connection's request heads. Their deadlines only ever move on, so one alarm serves all of
/// them: it is left where it is when a head came in time, and set anew when it rings too early.
#[derive(Clone, Default)]
pub(crate) struct HeadTimer(Arc<Mutex<Alarm>>);

#[derive(Default)]
struct Alarm {
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    registered: Registered,
}

impl Alarm {
    fn poll(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = match &mut self.sleep {
            Some(sleep) if sleep.is_elapsed() => {
                if deadline <= Instant::now() {
                    return Poll::Ready(());
                }
                sleep.as_mut().reset(deadline.into());
                sleep
            }
            Some(_) if self.registered.is(context) => return Poll::Pending,
            Some(sleep) => sleep,
            None => self.sleep.insert(Box::pin(tokio::time::sleep_until(deadline.into()))),
        };
        self.registered.now(context);
        match sleep.as_mut().poll(context) {
            Poll::Ready(()) if Instant::now() < deadline => {
                // It rang while it was looked at; the next look sets it anew.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            looked => looked,
        }
    }
}

struct HeadSleep {
    alarm: Arc<Mutex<Alarm>>,
    deadline: Instant,
}

impl Future for HeadSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.alarm.lock().unwrap_or_else(PoisonError::into_inner).poll(context, self.deadline)
    }
}

impl Sleep for HeadSleep {}

impl Timer for HeadTimer {
    fn sleep(&self, duration: std::time::Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(HeadSleep { alarm: self.0.clone(), deadline })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_head_that_does_not_come_is_told_after_its_own_time_and_not_after_an_earlier_ones() {
        let timer = HeadTimer::default();
        let start = Instant::now();
        let first = timer.sleep(Duration::from_millis(30));
        assert!(tokio::time::timeout(Duration::from_millis(5), first).await.is_err(), "too early");
        // The head came; the next one's time begins.
        tokio::time::sleep(Duration::from_millis(15)).await;
        timer.sleep(Duration::from_millis(60)).await;
        assert!(start.elapsed() >= Duration::from_millis(80), "{:?}", start.elapsed());
        // The alarm stands in the past now.
        let again = Instant::now();
        timer.sleep(Duration::from_millis(20)).await;
        assert!(again.elapsed() >= Duration::from_millis(20));
    }

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
