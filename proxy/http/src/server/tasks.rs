//! Tasks with an owner who waits for them.

use parking_lot::{Mutex, MutexGuard};
use std::{future::poll_fn, task::Poll, time::Duration};
use tokio::{runtime::Handle, task::JoinSet, time::timeout};

/// Tasks that end with their owner: connections, their requests, and what those start.
#[derive(Debug, Default)]
pub struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    fn set(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock()
    }

    /// Runs one more on this thread's runtime; where there is none any more, it is dropped.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = Handle::try_current() {
            self.spawn_on(task, &runtime);
        }
    }

    /// The same, on another runtime.
    pub fn spawn_on(&self, task: impl Future<Output = ()> + Send + 'static, runtime: &Handle) {
        let mut set = self.set();
        while set.try_join_next().is_some() {}
        set.spawn_on(task, runtime);
    }

    /// Waits until none is left, those included that others start meanwhile.
    pub async fn rest(&self) {
        poll_fn(|cx| {
            let mut set = self.set();
            loop {
                match set.poll_join_next(cx) {
                    Poll::Ready(Some(_)) => {}
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }

    /// Aborts the remaining tasks, and joins them: what they held is dropped by then.
    pub async fn cut_off(&self) {
        loop {
            // Tasks may start others as they end.
            let mut left = std::mem::take(&mut *self.set());
            if left.is_empty() {
                return;
            }
            left.shutdown().await;
        }
    }
}

/// Waits for `rest`, for so long at most, and no longer than until `hurry`.
pub async fn drain(within: Duration, rest: impl Future<Output = ()>, hurry: impl Future<Output = ()>) {
    tokio::select! {
        _ = timeout(within, rest) => {}
        () = hurry => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn who_rests_waits_for_tasks_that_others_start_too() {
        let tasks = Arc::new(Tasks::default());
        let (go, gone) = oneshot::channel::<()>();
        let (done, finished) = oneshot::channel();
        let inner = tasks.clone();
        tasks.spawn(async move {
            tokio::task::yield_now().await;
            inner.spawn(async move {
                let _ = gone.await;
                let _ = done.send(());
            });
        });
        assert!(timeout(Duration::from_millis(30), tasks.rest()).await.is_err());
        go.send(()).unwrap();
        timeout(Duration::from_secs(5), tasks.rest()).await.unwrap();
        finished.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_cut_off_has_ended_when_that_returns_and_so_has_what_it_starts_then() {
        struct Starts(Arc<Tasks>, Option<oneshot::Sender<()>>);
        impl Drop for Starts {
            fn drop(&mut self) {
                let held = self.1.take();
                self.0.spawn(async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                });
            }
        }
        let tasks = Arc::new(Tasks::default());
        let (held, mut released) = oneshot::channel();
        let starts = Starts(tasks.clone(), Some(held));
        tasks.spawn(async move {
            let _starts = starts;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        tasks.cut_off().await;
        assert!(matches!(released.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    }

    #[tokio::test]
    async fn a_drain_ends_with_its_time_or_when_it_is_hurried() {
        let never = std::future::pending::<()>;
        drain(Duration::from_millis(10), never(), never()).await;
        drain(Duration::from_secs(3600), never(), async {}).await;
        drain(Duration::from_secs(3600), async {}, never()).await;
    }
}
