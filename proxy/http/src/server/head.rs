//! The time that requests' heads have.

use super::drive::Registered;
use hyper::rt::{Sleep, Timer};
use parking_lot::Mutex;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// A timer for one connection's request heads. Their deadlines only ever move on, so one alarm serves all of
/// them: it is left where it is when a head came in time, and set anew when it rings too early. A timer of its own for each head would
/// take a lock that all connections share.
#[derive(Clone, Debug, Default)]
pub struct HeadTimer(Arc<Mutex<Alarm>>);

#[derive(Debug, Default)]
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
                // The timer fired while it was polled; the next poll sets it anew.
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
        self.alarm.lock().poll(context, self.deadline)
    }
}

impl Sleep for HeadSleep {}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(HeadSleep { alarm: self.0.clone(), deadline })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
