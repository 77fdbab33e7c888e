//! The threads that serve connections.
//!
//! Each has a runtime of its own, and a connection stays with one. So does what its requests need, the connections to servers
//! included ([`lane`](lane::lane)): a request that wanders between threads wakes another processor at every step, and on a quiet machine
//! that costs more than all that is done for it.

use gnomon_upstream::lane::{self, lanes};
use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{
    runtime::{Builder, Handle},
    sync::{Notify, oneshot},
};

/// The interval at which a thread with connections wakes. A timer that is due before all others has the runtime interrupt its own
/// waiting, with two system calls: this one is, so that those of requests are not.
pub(crate) const TICK: Duration = Duration::from_millis(400);

/// Threads that serve connections: one for each processor, 16 at most. They end, with what is left on them, when it is dropped;
/// [`Crew::stop`] waits for that.
pub struct Crew {
    hands: Vec<Hand>,
}

struct Hand {
    runtime: Handle,
    work: Arc<Work>,
    /// The thread ends when this is dropped.
    on_duty: oneshot::Sender<Infallible>,
    thread: thread::JoinHandle<()>,
}

#[derive(Default)]
struct Work {
    connections: AtomicUsize,
    begins: Notify,
}

impl Work {
    async fn tick(&self) {
        loop {
            match self.connections.load(Ordering::Relaxed) {
                0 => self.begins.notified().await,
                _ => tokio::time::sleep(TICK).await,
            }
        }
    }
}

/// A connection that a thread serves.
pub(crate) struct Load(Arc<Work>);

impl Load {
    fn on(work: &Arc<Work>) -> Self {
        if work.connections.fetch_add(1, Ordering::Relaxed) == 0 {
            work.begins.notify_one();
        }
        Self(work.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Crew {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system has no room for them.
    pub fn start() -> io::Result<Self> {
        Ok(Self { hands: (1..lanes()).map(Hand::start).collect::<io::Result<_>>()? })
    }

    /// Ends the threads and waits until they have: what was left on them is dropped by then.
    pub async fn stop(self) {
        let threads: Vec<_> = self.hands.into_iter().map(|Hand { on_duty, thread, .. }| (drop(on_duty), thread).1).collect();
        let joined = tokio::task::spawn_blocking(|| threads.into_iter().filter_map(|thread| thread.join().err()).count());
        if joined.await.unwrap_or_default() > 0 {
            tracing::error!("a thread that served portals had panicked");
        }
    }

    /// The thread for the next connection: the one with the fewest.
    pub(crate) fn least_busy(&self) -> (Handle, Load) {
        match self.hands.iter().min_by_key(|hand| hand.work.connections.load(Ordering::Relaxed)) {
            Some(hand) => (hand.runtime.clone(), Load::on(&hand.work)),
            None => (Handle::current(), Load::on(&Arc::default())),
        }
    }
}

impl Hand {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (on_duty, off_duty) = oneshot::channel();
        let work = Arc::<Work>::default();
        let ticking = work.clone();
        let thread = thread::Builder::new().name(format!("portal-{number}")).spawn(move || {
            lane::enter(number);
            runtime.block_on(async {
                tokio::select! {
                    _ = off_duty => {}
                    () = ticking.tick() => {}
                }
            });
        })?;
        Ok(Self { runtime: handle, work, on_duty, thread })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_upstream::lane::lane;

    #[tokio::test]
    async fn connections_go_where_the_fewest_are_and_threads_know_their_number() {
        let crew = Crew::start().unwrap();
        let mut loads = Vec::new();
        let mut seen: Vec<usize> = Vec::new();
        for _ in 0..crew.hands.len() {
            let (runtime, load) = crew.least_busy();
            seen.push(runtime.spawn(async { lane() }).await.unwrap());
            loads.push(load);
        }
        seen.sort_unstable();
        assert_eq!(seen, (1..lanes()).collect::<Vec<_>>());
        assert_eq!(lane(), 0);

        // The thread that has finished one is next.
        let freed = loads.pop().unwrap();
        drop(freed);
        let (runtime, _load) = crew.least_busy();
        assert_eq!(runtime.spawn(async { lane() }).await.unwrap(), crew.hands.len());
    }

    #[tokio::test]
    async fn what_is_left_ends_with_the_crew() {
        let crew = Crew::start().unwrap();
        let left = crew.least_busy().0.spawn(std::future::pending::<()>());
        drop(crew);
        assert!(left.await.unwrap_err().is_cancelled());
    }
}
